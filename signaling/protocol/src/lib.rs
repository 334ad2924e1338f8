//! The room protocol, version 1: its messages and its two state machines.
//!
//! [`Hub`] is the whole server as a value, [`Client`] is its other end. Both take inputs and the time, and hand out
//! outputs. The owner of the sockets drives them.
//!
//! Architecture invariant: nothing here does I/O, reads a clock, draws a random number or is async. The same inputs
//! give the same outputs, always.

pub mod client;
pub mod hub;
pub mod id;
pub mod network;
pub mod rate;
pub mod scan;
pub mod turn;
pub mod wire;

pub use bytestring::ByteString;
pub use client::Client;
pub use hub::{Hub, HubConfig};
pub use id::{ClientId, Epoch, IdError, Instance, RoomId, SessionId, UserId};
