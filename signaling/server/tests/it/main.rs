//! The server over real sockets, on free ports.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod commands;
mod common;
mod conformance;
mod crowd;
mod frames;
mod garbage;
mod http;
mod limits;
mod liveness;
mod operators;
mod program;
mod reload;
mod rooms;
mod service;
mod shutdown;
mod slow;
mod tls;
mod users;
