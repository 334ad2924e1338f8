//! The configuration of a server as a value.

use crate::{
    auth::{AdminToken, Keys},
    limits::Limits,
    net::{proxies::TrustedProxy, tls::Tls},
};
use room_protocol::HubConfig;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// The configuration of a server. Start from [`Config::default`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The addresses to listen on (127.0.0.1:8765). Port 0 picks a free port. [`crate::spawn_thread`] and the program
    /// bind them; [`crate::Server`] gets the bound listeners.
    pub listen: Vec<SocketAddr>,
    /// The certificate for TLS (none). With a certificate, the server answers no request without TLS.
    pub tls: Option<Tls>,
    /// The configuration of the Hub: heartbeat, time-outs, the default room, ICE servers, sizes of rooms.
    pub hub: HubConfig,
    /// The keys that tokens are checked with (none). The Hub knows each by its print.
    pub keys: Keys,
    /// Names that a `Host` header may have besides loopback and the listen addresses (none). Without port: any port.
    pub allow_hosts: Vec<String>,
    /// Origins such as `https://example.org` whose pages may connect besides the server's own (none). `*`: all.
    pub allow_origins: Vec<String>,
    /// The limits, apart from those of the Hub.
    pub limits: Limits,
    /// The address on which `/metrics`, `/api`, `/healthz` and `/readyz` need no token (none).
    pub metrics_listen: Option<SocketAddr>,
    /// The token that opens `/metrics` and `/api` on the public addresses (none: they are closed).
    pub admin_token: Option<AdminToken>,
    /// Proxies whose `X-Forwarded-For` is believed (none).
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Whether connections of trusted proxies begin with a header of the PROXY protocol (no).
    pub proxy_protocol: bool,
    /// The path at which a proxy that does not strip it shows this server, such as `/rooms` (none).
    pub base_path: String,
    /// How long members can still send messages after the shutdown was announced to them (1 s).
    pub drain: Duration,
    /// After how long clients are asked to reconnect after a shutdown (1 s).
    pub retry_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, room_protocol::wire::DEFAULT_PORT))],
            tls: None,
            hub: HubConfig::default(),
            keys: Keys::default(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            limits: Limits::default(),
            metrics_listen: None,
            admin_token: None,
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            base_path: String::new(),
            drain: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
        }
    }
}
