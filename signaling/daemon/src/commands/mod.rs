//! The commands. `main.rs` calls one function for each.

pub(crate) mod admin;
pub(crate) mod credentials;
pub(crate) mod rooms;
pub(crate) mod serve;
