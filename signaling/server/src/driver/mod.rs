//! What drives the Hub, and what it logs.

pub(crate) mod log;
pub(crate) mod shell;
