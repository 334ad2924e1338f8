//! The limits of connections, of what each may send, and of memory: the section `limits` of the configuration. The sizes of
//! rooms are in the same section and belong to the Hub. To add a limit: [`Limits`] with its default, [`LimitSettings`] with its
//! key, `LimitSettings::load`, config.example.toml, and the file in `net/` that enforces it.

use crate::config::{Loader, Located, Seconds};
use room_protocol::{
    HubConfig,
    network::{Network, SITE_FACTOR},
    rate::Rate,
};
use serde::Deserialize;
use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

/// The files that a server may have open in addition to [`Limits::max_connections`]: listeners, certificates, the log,
/// rejections, health checks, and operators.
pub const SPARE_FILES: usize = 64 + REJECTIONS + SPARE_SEATS + OPERATORS;
/// Connections that are being told why they are rejected, at a time. More are dropped without a response.
pub(crate) const REJECTIONS: usize = 128;
/// Connections beyond [`Limits::max_connections`] that may make a request, so that a full server answers health checks. None
/// of them may open a WebSocket.
pub(crate) const SPARE_SEATS: usize = 16;
/// Connections of operators at a time ([`Config::metrics_listen`](crate::Config::metrics_listen)).
pub(crate) const OPERATORS: usize = 64;

/// The bytes of a queue for the list of members in `joined`, errors and pings, in addition to two of the longest messages.
const QUEUE_RESERVE: usize = 64 << 10;

/// The limits of a server. Defaults are in parentheses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time (20,000). More are rejected with 503.
    pub max_connections: usize,
    /// Connections at a time from one address, or from one /64 of IPv6 (256); sixteen times as many from one /48. More are
    /// rejected with 429.
    pub max_connections_per_ip: usize,
    /// Connections a second from one address or /64 (50, after a burst of twice that); sixteen times as many from one /48.
    /// More are rejected with 429.
    pub new_connections_per_second: NonZeroU32,
    /// Connections at a time whose request is not complete (4,096). One more ends the oldest.
    pub max_handshakes: usize,
    /// The time for the TLS handshake and the head of the request together (5 s).
    pub head_timeout: Duration,
    /// The time for a message from a client to arrive (30 s; then close code 1008), for a client to read the first message of
    /// its queue (then `slow_consumer`, 4008), and for an HTTP peer to read any of its response.
    pub stall_timeout: Duration,
    /// The largest message from a client, in bytes (64 KiB). A larger one closes with 1009.
    pub max_message: usize,
    /// The largest number of frames of a message (256). More close with 1009.
    pub max_fragments: u32,
    /// Frames per second from one connection (100). Beyond that, reading pauses.
    pub messages_per_second: NonZeroU32,
    /// Frames in a burst (200).
    pub messages_burst: NonZeroU32,
    /// Bytes per second from one connection (512 KiB). Beyond that, reading pauses. At least [`Limits::max_message`],
    /// because a longer pause after a message could be mistaken for silence.
    pub bytes_per_second: NonZeroU32,
    /// Bytes in a burst (1 MiB).
    pub bytes_burst: NonZeroU32,
    /// Bytes that may wait for one client to read them (1 MiB). More close the connection (`slow_consumer`, 4008). A list of
    /// peers takes at most half of them. At least twice [`Limits::max_message`] plus 64 KiB, because otherwise one message
    /// could close its recipient's connection.
    pub max_queue: usize,
    /// Bytes that all connections together may hold (512 MiB): what waits to be read, incomplete messages, and requests over
    /// HTTP with their responses. Beyond that, the connections that hold most are closed (`slow_consumer`, 4008; or 503).
    pub max_queues: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            max_connections: 20_000,
            max_connections_per_ip: 256,
            new_connections_per_second: number(50),
            max_handshakes: 4_096,
            head_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            max_message: 64 << 10,
            max_fragments: 256,
            messages_per_second: number(100),
            messages_burst: number(200),
            bytes_per_second: number(512 << 10),
            bytes_burst: number(1 << 20),
            max_queue: 1 << 20,
            max_queues: 512 << 20,
        }
    }
}

impl Limits {
    /// The rate of frames from one connection.
    pub(crate) fn messages(&self) -> Rate {
        Rate::per_second(self.messages_per_second, self.messages_burst)
    }

    /// The rate of bytes from one connection.
    pub(crate) fn bytes(&self) -> Rate {
        Rate::per_second(self.bytes_per_second, self.bytes_burst)
    }

    /// The rate of new connections from a network. The burst is for the viewer page, which loads all its files together.
    pub(crate) fn arrivals(&self, network: Network) -> Rate {
        let second = self.new_connections_per_second.saturating_mul(hosts(network));
        Rate::per_second(second, second.saturating_mul(NonZeroU32::MIN.saturating_add(1)))
    }

    /// The number of connections from a network at a time.
    pub(crate) fn max_connections_of(&self, network: Network) -> usize {
        let hosts = usize::try_from(hosts(network).get()).unwrap_or(usize::MAX);
        self.max_connections_per_ip.saturating_mul(hosts)
    }
}

/// The number of hosts whose limits a network has.
fn hosts(network: Network) -> NonZeroU32 {
    if network.is_site() { SITE_FACTOR } else { NonZeroU32::MIN }
}

/// The section `limits` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "Limits and HubConfig describe each")]
pub struct LimitSettings {
    pub max_connections: Option<NonZeroUsize>,
    pub max_connections_per_ip: Option<NonZeroUsize>,
    pub new_connections_per_second: Option<NonZeroU32>,
    pub max_handshakes: Option<NonZeroUsize>,
    pub head_seconds: Option<Seconds>,
    pub stall_seconds: Option<Seconds>,
    pub register_seconds: Option<Seconds>,
    pub max_message: Option<Located<NonZeroUsize>>,
    pub max_fragments: Option<NonZeroU32>,
    pub messages_per_second: Option<NonZeroU32>,
    pub messages_burst: Option<NonZeroU32>,
    pub bytes_per_second: Option<Located<NonZeroU32>>,
    pub bytes_burst: Option<NonZeroU32>,
    pub max_queue: Option<Located<NonZeroUsize>>,
    pub max_queues: Option<NonZeroUsize>,
    pub max_rooms: Option<NonZeroUsize>,
    pub max_members: Option<NonZeroUsize>,
    pub max_senders: Option<NonZeroUsize>,
}

/// Replaces a default if the configuration has a value.
fn set<T>(limit: &mut T, configured: Option<impl Into<T>>) {
    if let Some(configured) = configured {
        *limit = configured.into();
    }
}

impl LimitSettings {
    /// Sets the limits. Problems are reported to the loader.
    pub(crate) fn load(self, limits: &mut Limits, hub: &mut HubConfig, loader: &mut Loader) {
        set(&mut limits.max_connections, self.max_connections);
        set(&mut limits.max_connections_per_ip, self.max_connections_per_ip);
        set(&mut limits.new_connections_per_second, self.new_connections_per_second);
        set(&mut limits.max_handshakes, self.max_handshakes);
        set(&mut limits.head_timeout, self.head_seconds.map(Seconds::duration));
        set(&mut limits.stall_timeout, self.stall_seconds.map(Seconds::duration));
        set(&mut hub.register_timeout, self.register_seconds.map(Seconds::duration));
        set(&mut limits.max_message, self.max_message.as_ref().map(|located| located.value));
        set(&mut limits.max_fragments, self.max_fragments);
        set(&mut limits.messages_per_second, self.messages_per_second);
        set(&mut limits.messages_burst, self.messages_burst);
        set(&mut limits.bytes_per_second, self.bytes_per_second.as_ref().map(|located| located.value));
        set(&mut limits.bytes_burst, self.bytes_burst);
        set(&mut limits.max_queue, self.max_queue.as_ref().map(|located| located.value));
        set(&mut limits.max_queues, self.max_queues);
        set(&mut hub.max_rooms, self.max_rooms);
        set(&mut hub.max_members, self.max_members);
        set(&mut hub.max_senders, self.max_senders);
        let problem = format!(
            "{} bytes a second are fewer than one message of {} bytes, so reading would pause for longer than a second",
            limits.bytes_per_second, limits.max_message
        );
        if u64::from(limits.bytes_per_second.get()) < limits.max_message as u64 {
            match (&self.bytes_per_second, &self.max_message) {
                (Some(rate), _) => loader.refuse("limits.bytes_per_second", rate, problem),
                (None, Some(length)) => loader.refuse("limits.max_message", length, problem),
                (None, None) => {}
            }
        }
        let needed = limits.max_message.saturating_mul(2).saturating_add(QUEUE_RESERVE);
        if limits.max_queue < needed {
            let problem = format!(
                "a queue of {} bytes is too small for messages of {} bytes, because one message could close its \
                 recipient's connection: set max_queue to {needed} or more, or reduce max_message",
                limits.max_queue, limits.max_message
            );
            match (&self.max_queue, &self.max_message) {
                (Some(queue), _) => loader.refuse("limits.max_queue", queue, problem),
                (None, Some(length)) => loader.refuse("limits.max_message", length, problem),
                (None, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read;

    fn load(text: &str) -> Result<(Limits, HubConfig), String> {
        let settings: LimitSettings = toml::from_str(text).unwrap();
        let (mut limits, mut hub) = (Limits::default(), HubConfig::default());
        let (_, mut loader) = read::<Nothing>(None, &[]).unwrap();
        settings.load(&mut limits, &mut hub, &mut loader);
        loader.finish().map(|_| (limits, hub)).map_err(|error| error.to_string())
    }

    #[derive(Default, Deserialize)]
    struct Nothing {}

    #[test]
    fn every_setting_reaches_its_limit() {
        let text = "max_connections = 1\nmax_connections_per_ip = 2\nnew_connections_per_second = 3\n\
                    max_handshakes = 4\nhead_seconds = 5.5\nstall_seconds = 5.6\nregister_seconds = 6\nmax_message = 7\n\
                    max_fragments = 8\nmessages_per_second = 9\nmessages_burst = 10\nbytes_per_second = 11\n\
                    bytes_burst = 12\nmax_queue = 70000\nmax_queues = 14\nmax_rooms = 15\nmax_members = 16\n\
                    max_senders = 17\n";
        let (limits, hub) = load(text).unwrap();
        let number = |number| NonZeroU32::new(number).unwrap();
        let expected = Limits {
            max_connections: 1,
            max_connections_per_ip: 2,
            new_connections_per_second: number(3),
            max_handshakes: 4,
            head_timeout: Duration::from_millis(5_500),
            stall_timeout: Duration::from_millis(5_600),
            max_message: 7,
            max_fragments: 8,
            messages_per_second: number(9),
            messages_burst: number(10),
            bytes_per_second: number(11),
            bytes_burst: number(12),
            max_queue: 70_000,
            max_queues: 14,
        };
        assert_eq!(limits, expected);
        assert_eq!((hub.max_rooms, hub.max_members, hub.max_senders), (15, 16, 17));
        assert_eq!(hub.register_timeout, Duration::from_secs(6));
    }

    #[test]
    fn a_rate_below_one_message_is_refused() {
        for text in ["bytes_per_second = 65535", "max_message = 524289"] {
            let (key, _) = text.split_once(' ').unwrap();
            let error = load(text).unwrap_err();
            assert!(error.contains(&format!("limits.{key}")) && error.contains("pause"), "{error}");
        }
        load("bytes_per_second = 1000000\nmax_message = 1000000\nmax_queue = 3000000").unwrap();
    }

    #[test]
    fn a_queue_that_one_message_could_overflow_is_refused() {
        for (text, key) in [
            ("max_queue = 196607", "limits.max_queue"),
            ("max_message = 491521", "limits.max_message"),
            ("max_message = 65537\nmax_queue = 196608", "limits.max_queue"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(key) && error.contains("max_queue to"), "{error}");
        }
        load("max_queue = 196608").unwrap();
        load("max_message = 491520").unwrap();
    }
}
