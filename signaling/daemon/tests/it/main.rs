//! The program as a process: its commands, its configuration, its log, and signals to it.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod admin;
mod commands;
mod garbage;
mod limits;
mod program;
mod reload;
mod service;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod support;
mod tls;
mod users;
