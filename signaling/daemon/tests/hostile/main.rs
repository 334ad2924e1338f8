//! Hostile clients, each of which hits the limit against it, while ten honest clients in other rooms notice nothing. `rig`
//! runs an attack, `honest` has the honest clients; the other files are attackers.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]
#![expect(clippy::unchecked_time_subtraction, reason = "of a constant, in tests")]

mod connections;
mod crowds;
mod frames;
mod guesses;
mod handshakes;
mod honest;
mod memory;
mod messages;
mod pages;
mod rig;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "other tests use the rest of it")]
mod support;
