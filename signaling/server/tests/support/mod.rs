//! A server on a free port and its clients, shared by the tests.

mod authority;
mod files;
mod folder;
mod sockets;

pub(crate) use authority::{Authority, certificate};
pub(crate) use files::raise_file_limit;
pub(crate) use folder::Folder;
pub(crate) use sockets::*;

use room_signaling_server::{Config, Running, spawn_thread};
use std::time::Duration;

/// A server in this process.
pub(crate) fn server(change: impl FnOnce(&mut Config)) -> Running {
    let mut config =
        Config { listen: vec!["127.0.0.1:0".parse().unwrap()], drain: Duration::ZERO, ..Config::default() };
    change(&mut config);
    spawn_thread(config).unwrap()
}

/// Removes the rate limits of one address and one connection.
pub(crate) fn unhurried(config: &mut Config) {
    let limits = &mut config.limits;
    limits.max_connections_per_ip = limits.max_connections;
    for number in [
        &mut limits.new_connections_per_second,
        &mut limits.messages_per_second,
        &mut limits.messages_burst,
        &mut limits.bytes_per_second,
        &mut limits.bytes_burst,
    ] {
        *number = 1_000_000_000.try_into().unwrap();
    }
}
