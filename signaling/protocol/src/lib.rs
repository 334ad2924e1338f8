//! The room protocol, version 1: its messages and its two state machines.
//!
//! [`Hub`] is the whole server as a value, [`Client`] is the other end of one connection. Both take inputs and the time,
//! and return outputs. The owner of the sockets drives them.
//!
//! [`wire`] defines the messages, [`scan`] reads the envelope of a message without parsing the rest, [`turn`] makes TURN
//! credentials, and [`rate`] limits rates.
//!
//! Architecture invariant: nothing here does I/O, reads a clock, draws a random number or is async. The same inputs
//! give the same outputs, always.

#![forbid(unsafe_code)]

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
