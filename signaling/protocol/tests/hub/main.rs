//! What the Hub does, rule by rule, on virtual time: inputs in, exact outputs out, nothing left over.

#![expect(clippy::unchecked_time_subtraction, reason = "of constants, in tests")]

mod bad_input;
mod census;
mod draining;
mod heartbeat;
mod ids;
mod limits;
mod old_clients;
mod passwords;
mod presence;
mod reconfigure;
mod registration;
mod relay;
mod removal;
mod rights_model;
mod rights_random;
mod rooms;
mod takeover;
mod tokens;
mod views;
mod world;
