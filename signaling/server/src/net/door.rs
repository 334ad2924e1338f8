//! The two kinds of addresses that the server listens on.

/// The address that a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// A public address.
    Public,
    /// The address of operators, where reading needs no token ([`crate::Config::metrics_listen`]).
    Operators,
}
