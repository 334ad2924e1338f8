//! The log lines about connections. Text that clients chose is escaped. Tokens, passwords and `instance` are never logged, and
//! messages between peers only at `trace`.
//!
//! Lines that clients cause are limited in rate, so that a flood does not fill the disk. Omitted lines are counted, and the
//! count is logged.

use room_protocol::{
    UserId,
    hub::{ConnId, Event},
    rate::{Bucket, Rate},
    wire::ErrorCode,
};
use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    time::{Duration, Instant},
};
use tracing::{Level, debug, enabled, info, trace, warn};

/// The name of these lines in `log_level`. It is documented, so it stays the same wherever this file is.
const TARGET: &str = "room_signaling::log";
/// The interval at which the number of omitted lines is logged.
pub(crate) const SUMMARY_EVERY: Duration = Duration::from_secs(10);

const fn lines(per_second: u32, burst: u32) -> Rate {
    match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
        (Some(per_second), Some(burst)) => Rate::per_second(per_second, burst),
        _ => Rate::per_second(NonZeroU32::MIN, NonZeroU32::MIN),
    }
}

/// Connects, disconnects, joins and so on. The burst is for all clients that reconnect together.
const SESSIONS: Rate = lines(100, 5_000);
/// Refusals.
const REFUSALS: Rate = lines(10, 200);

/// The rates of log lines.
#[derive(Debug)]
pub(crate) struct Log {
    sessions: Quota,
    refusals: Quota,
    /// Whether the hint about proxies was logged. Once is enough.
    hinted: Cell<bool>,
}

/// The rate of one kind of lines.
#[derive(Debug)]
struct Quota {
    rate: Rate,
    bucket: Cell<Bucket>,
    omitted: Cell<u64>,
}

impl Quota {
    fn new(rate: Rate) -> Self {
        Self { rate, bucket: Cell::new(Bucket::new(Instant::now())), omitted: Cell::new(0) }
    }

    /// Whether a line may be logged. If not, it is counted.
    fn admits(&self) -> bool {
        if !enabled!(target: TARGET, Level::INFO) {
            return false;
        }
        let mut bucket = self.bucket.get();
        let admitted = bucket.take(Instant::now(), &self.rate, 1).is_ok();
        self.bucket.set(bucket);
        if !admitted {
            self.omitted.set(self.omitted.get() + 1);
        }
        admitted
    }

    fn summarize(&self, what: &str) {
        let omitted = self.omitted.take();
        if omitted > 0 {
            warn!(target: TARGET, omitted, "lines about {what} were omitted, because there were too many");
        }
    }
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { sessions: Quota::new(SESSIONS), refusals: Quota::new(REFUSALS), hinted: Cell::new(false) }
    }

    /// Logs how many lines were omitted since the last call.
    pub(crate) fn summarize(&self) {
        self.sessions.summarize("connects, joins and disconnects");
        self.refusals.summarize("refusals");
    }

    /// A limit per address was reached. A private address with many clients is probably a proxy that is not configured, and
    /// then one of its clients can lock out the others.
    pub(crate) fn address_limit(&self, ip: IpAddr) {
        if is_private(ip) && !self.hinted.replace(true) {
            warn!(
                target: TARGET, address = %ip,
                "a private address has reached a limit per address: if it is a proxy, add it to trusted_proxies, so that \
                 limits apply to each client behind it"
            );
        }
    }

    pub(crate) fn connected(&self, ConnId(connection): ConnId, remote: SocketAddr) {
        if self.sessions.admits() {
            info!(target: TARGET, connection, %remote, "connected");
        }
    }

    pub(crate) fn disconnected(&self, ConnId(connection): ConnId, remote: SocketAddr) {
        if self.sessions.admits() {
            info!(target: TARGET, connection, %remote, "disconnected");
        }
    }

    pub(crate) fn closing(&self, ConnId(connection): ConnId, remote: SocketAddr, code: u16, reason: &str) {
        if self.sessions.admits() {
            info!(target: TARGET, connection, %remote, code, reason, "closing");
        }
    }

    pub(crate) fn event(&self, ConnId(connection): ConnId, remote: SocketAddr, event: &Event) {
        let quota = match event {
            Event::Refused { .. } => &self.refusals,
            _ => &self.sessions,
        };
        if !quota.admits() {
            return;
        }
        match event {
            Event::Registered { client_id, protocol, user, token_id } => {
                let (client, user) = (client_id.as_str(), user.as_ref().map(UserId::as_str));
                info!(target: TARGET, connection, %remote, client, protocol, user, token_id, "registered");
            }
            Event::Joined { client_id, room_id, role } => {
                let (client, room) = (client_id.as_str(), room_id.as_str());
                info!(target: TARGET, connection, %remote, client, room, role = role.as_str(), "joined");
            }
            Event::Left { client_id, room_id, reason } => {
                let (client, room) = (client_id.as_str(), room_id.as_str());
                info!(target: TARGET, connection, %remote, client, room, reason = reason.as_str(), "left");
            }
            Event::Refused { code } => {
                if *code == ErrorCode::TooManyAttempts {
                    self.address_limit(remote.ip());
                }
                info!(target: TARGET, connection, %remote, code = code.as_str(), "refused");
            }
        }
    }

    /// A connection was rejected, or a request over HTTP was refused.
    pub(crate) fn turned_away(&self, remote: SocketAddr, status: u16, why: &str) {
        if self.refusals.admits() {
            info!(target: TARGET, %remote, status, why, "turned away");
        }
    }

    /// A trusted proxy did not send the PROXY header.
    pub(crate) fn no_proxy_header(&self, remote: SocketAddr, error: &std::io::Error) {
        if self.refusals.admits() {
            warn!(
                target: TARGET, %remote, %error,
                "a trusted proxy sent no PROXY header: make it send one, or set proxy_protocol to false"
            );
        }
    }

    /// A TLS handshake failed. The error may come from the peer, for example because it does not trust the certificate.
    pub(crate) fn no_tls(&self, remote: SocketAddr, error: &std::io::Error) {
        if self.refusals.admits() {
            info!(target: TARGET, %remote, %error, "the TLS handshake failed");
        }
    }

    /// A connection without a complete request was ended for a newer one.
    pub(crate) fn handshake_ended(&self) {
        if self.refusals.admits() {
            info!(target: TARGET, "more connections without a request than max_handshakes: the oldest was ended");
        }
    }
}

/// A request over HTTP was answered.
pub(crate) fn answered(remote: SocketAddr, status: u16, path: &str) {
    debug!(target: TARGET, %remote, status, path, "answered");
}

/// A message is sent. Only descriptions and candidates are logged, and only at `trace`, because other messages may contain
/// credentials.
pub(crate) fn sending(ConnId(connection): ConnId, text: &str) {
    if enabled!(target: TARGET, Level::TRACE) {
        let message: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        trace!(target: TARGET, connection, kind = %message["type"], from = %message["from"], sdp = %message["sdp"],
            candidate = %message["candidate"], "sending");
    }
}

/// Whether an address is not a public one.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}
