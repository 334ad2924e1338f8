//! The lines that the server logs. Everything that a client chose is escaped; tokens, passwords and `instance` come
//! near no line, and what peers say to each other is only shown at `trace`.
//!
//! What clients cause is logged up to a rate: a flood must not fill a disk. What is left out is counted, and told.

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

/// What operators call these lines in `log_level`: the name stays, wherever this file lies.
const TARGET: &str = "room_signaling::log";
/// How often lines that were left out are told of.
pub(crate) const SUMMARY_EVERY: Duration = Duration::from_secs(10);

const fn lines(per_second: u32, burst: u32) -> Rate {
    match (NonZeroU32::new(per_second), NonZeroU32::new(burst)) {
        (Some(per_second), Some(burst)) => Rate::per_second(per_second, burst),
        _ => Rate::per_second(NonZeroU32::MIN, NonZeroU32::MIN),
    }
}

/// Coming and going: all of it when everybody reconnects at once, but not for ever.
const COMING_AND_GOING: Rate = lines(100, 5_000);
/// What was refused.
const REFUSALS: Rate = lines(10, 200);

/// What may be logged.
#[derive(Debug)]
pub(crate) struct Log {
    coming_and_going: Quota,
    refusals: Quota,
    /// The advice about proxies was given: once is enough.
    hinted: Cell<bool>,
}

/// Lines of one kind.
#[derive(Debug)]
struct Quota {
    rate: Rate,
    bucket: Cell<Bucket>,
    left_out: Cell<u64>,
}

impl Quota {
    fn new(rate: Rate) -> Self {
        Self { rate, bucket: Cell::new(Bucket::new(Instant::now())), left_out: Cell::new(0) }
    }

    /// Whether a line may be written. If not, it is counted.
    fn admits(&self) -> bool {
        if !enabled!(target: TARGET, Level::INFO) {
            return false;
        }
        let mut bucket = self.bucket.get();
        let admitted = bucket.take(Instant::now(), &self.rate, 1).is_ok();
        self.bucket.set(bucket);
        if !admitted {
            self.left_out.set(self.left_out.get() + 1);
        }
        admitted
    }

    fn summarize(&self, what: &str) {
        let left_out = self.left_out.take();
        if left_out > 0 {
            warn!(target: TARGET, left_out, "more {what} than are logged one by one");
        }
    }
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            coming_and_going: Quota::new(COMING_AND_GOING),
            refusals: Quota::new(REFUSALS),
            hinted: Cell::new(false),
        }
    }

    /// Tells how many lines were left out since the last time.
    pub(crate) fn summarize(&self) {
        self.coming_and_going.summarize("comings and goings");
        self.refusals.summarize("refusals");
    }

    /// A limit that is counted per address, or a password guesser's, was met. Many clients of one private address are likely
    /// to be behind a proxy that nobody has named, and then one of them locks out all others.
    pub(crate) fn address_limit(&self, ip: IpAddr) {
        if is_private(ip) && !self.hinted.replace(true) {
            warn!(
                target: TARGET, address = %ip,
                "a limit per address was met by a private address: if that is a proxy, name it in trusted_proxies, so \
                 that limits are about the clients behind it"
            );
        }
    }

    pub(crate) fn connected(&self, ConnId(connection): ConnId, remote: SocketAddr) {
        if self.coming_and_going.admits() {
            info!(target: TARGET, connection, %remote, "connected");
        }
    }

    pub(crate) fn disconnected(&self, ConnId(connection): ConnId, remote: SocketAddr) {
        if self.coming_and_going.admits() {
            info!(target: TARGET, connection, %remote, "disconnected");
        }
    }

    pub(crate) fn closing(&self, ConnId(connection): ConnId, remote: SocketAddr, code: u16, reason: &str) {
        if self.coming_and_going.admits() {
            info!(target: TARGET, connection, %remote, code, reason, "closing");
        }
    }

    pub(crate) fn event(&self, ConnId(connection): ConnId, remote: SocketAddr, event: &Event) {
        let quota = match event {
            Event::Refused { .. } => &self.refusals,
            _ => &self.coming_and_going,
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

    /// A connection was not taken, or a request over HTTP was refused.
    pub(crate) fn turned_away(&self, remote: SocketAddr, status: u16, why: &str) {
        if self.refusals.admits() {
            info!(target: TARGET, %remote, status, why, "turned away");
        }
    }

    /// A proxy did not send the header that it is to send.
    pub(crate) fn no_proxy_header(&self, remote: SocketAddr, error: &std::io::Error) {
        if self.refusals.admits() {
            warn!(target: TARGET, %remote, %error, "a trusted proxy must send a PROXY header (proxy_protocol)");
        }
    }

    /// TLS could not begin. The error may be what the peer says: that it doesn't trust the certificate.
    pub(crate) fn no_tls(&self, remote: SocketAddr, error: &std::io::Error) {
        if self.refusals.admits() {
            info!(target: TARGET, %remote, %error, "TLS failed");
        }
    }

    /// A request that was not complete had to make way for a newer one.
    pub(crate) fn handshake_ended(&self) {
        if self.refusals.admits() {
            info!(target: TARGET, "too many connections without a request: the oldest was ended");
        }
    }
}

/// A request over HTTP was answered.
pub(crate) fn answered(remote: SocketAddr, status: u16, path: &str) {
    debug!(target: TARGET, %remote, status, path, "answered");
}

/// A message goes out. Only descriptions and candidates are shown, and only at `trace`: other messages may carry
/// credentials.
pub(crate) fn sending(ConnId(connection): ConnId, text: &str) {
    if enabled!(target: TARGET, Level::TRACE) {
        let message: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        trace!(target: TARGET, connection, kind = %message["type"], from = %message["from"], sdp = %message["sdp"],
            candidate = %message["candidate"], "sending");
    }
}

/// Whether an address belongs to no single host of the internet.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}
