//! Scenarios for the Hub on virtual time, rule by rule. Each test checks all outputs.

#![expect(clippy::unchecked_time_subtraction, reason = "of constants, in tests")]

mod bad_input;
mod census;
mod draining;
mod heartbeat;
mod ids;
mod limits;
mod new_tokens;
mod old_clients;
mod owned_ids;
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
