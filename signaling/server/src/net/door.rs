//! The two kinds of addresses that the server listens on ("doors"), and the connections that each of them admits.

use super::admission::Admission;
use std::rc::Rc;

/// The kind of address at which a connection arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// A public address ([`crate::Config::listen`]).
    Public,
    /// The operators' address, where reading needs no token ([`crate::Config::metrics_listen`]).
    Operators,
}

/// The admission of each door. A crowd at the public one takes no seat of the operators.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    public: Rc<Admission>,
    operators: Rc<Admission>,
}

impl Doors {
    pub(crate) fn admission(&self, door: Door) -> &Rc<Admission> {
        match door {
            Door::Public => &self.public,
            Door::Operators => &self.operators,
        }
    }

    /// The number of connections whose request is not answered yet.
    pub(crate) fn handshakes(&self) -> usize {
        self.public.handshakes() + self.operators.handshakes()
    }

    /// The number of connections that have ended in a panic.
    pub(crate) fn panics(&self) -> u64 {
        self.public.panics() + self.operators.panics()
    }
}
