//! The server over real sockets, on free ports.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod conformance;
mod crowd;
mod frames;
mod http;
mod limits;
mod liveness;
mod operators;
mod proxies;
mod reload;
mod rooms;
mod shutdown;
mod slow;
mod slow_http;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "the tests of the program use the rest of it")]
mod support;
mod tls;
mod users;
