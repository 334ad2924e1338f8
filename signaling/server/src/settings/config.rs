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
    /// The addresses to listen on (127.0.0.1:8765). Port 0 chooses a free port. [`crate::spawn_thread`] binds them;
    /// [`crate::Server`] takes bound listeners instead.
    pub listen: Vec<SocketAddr>,
    /// The certificate for TLS (none). With a certificate, the server accepts TLS only.
    pub tls: Option<Tls>,
    /// The configuration of the Hub: heartbeat, timeouts, default room, ICE servers, sizes of rooms.
    pub hub: HubConfig,
    /// The keys that verify tokens (none). The Hub identifies each by its digest.
    pub keys: Keys,
    /// Names that a `Host` header may have in addition to loopback and the listen addresses (none). A name without a port
    /// matches any port.
    pub allow_hosts: Vec<String>,
    /// Origins such as `https://example.org` whose pages may connect, in addition to the server's own (none). `*`: all.
    pub allow_origins: Vec<String>,
    /// The limits that the Hub does not enforce.
    pub limits: Limits,
    /// The address on which `/metrics`, `/api`, `/healthz` and `/readyz` need no token (none).
    pub metrics_listen: Option<SocketAddr>,
    /// The token that opens `/metrics` and `/api` on the public addresses (none: they are closed).
    pub admin_token: Option<AdminToken>,
    /// Proxies whose `X-Forwarded-For` is trusted (none).
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Whether connections of trusted proxies begin with a header of the PROXY protocol (no).
    pub proxy_protocol: bool,
    /// The path below which a proxy serves this server, such as `/rooms`, if the proxy does not strip it (none).
    pub base_path: String,
    /// How long members can still send messages after a shutdown was announced (1 s).
    pub drain: Duration,
    /// The delay after which clients are asked to reconnect after a shutdown (1 s).
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
