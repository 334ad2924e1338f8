//! What the operator decides, with the defaults of a server on a desk.

use room_protocol::HubConfig;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// What the operator decides. Start from [`Config::default`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen (127.0.0.1:8765). Port 0 picks a free one. Looked at by [`crate::spawn_thread`] and the
    /// program; [`crate::serve`] takes a bound listener.
    pub listen: SocketAddr,
    /// What the Hub is told: heartbeat, time-outs, the default room, ICE servers, sizes of rooms.
    pub hub: HubConfig,
    /// Names, beside loopback and the listen address, that a `Host` header may have (none). Without port: any port.
    pub allow_hosts: Vec<String>,
    /// Origins such as `https://example.org` of pages, beside the server's own, that may connect (none). `*`: all.
    pub allow_origins: Vec<String>,
    /// Connections at a time (20,000). More are answered with 503.
    pub max_connections: usize,
    /// The largest message from a client in bytes (64 KiB). Over it: close code 1009.
    pub max_message: usize,
    /// What may wait for one connection to read it, in bytes (1 MiB). Over it: `slow_consumer`, close code 4008.
    pub max_queue: usize,
    /// What may wait in all queues together, in bytes (512 MiB).
    pub max_queues: usize,
    /// How long the head of a request may take (5 s).
    pub head_timeout: Duration,
    /// How long members may go on talking after the shutdown was announced to them (1 s).
    pub drain: Duration,
    /// After how long clients are asked to come back after a shutdown (1 s).
    pub retry_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, room_protocol::wire::DEFAULT_PORT)),
            hub: HubConfig::default(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            max_connections: 20_000,
            max_message: 64 << 10,
            max_queue: 1 << 20,
            max_queues: 512 << 20,
            head_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
        }
    }
}
