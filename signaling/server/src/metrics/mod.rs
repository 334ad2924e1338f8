//! The metrics of the server. To add one: count it in a field of [`Metrics`], or read it in `http/site.rs` into a
//! [`Snapshot`], or count it in the Hub's `census.rs` if the Hub decides it; write it in `Metrics::text`; and describe it in docs/metrics.md.
//!
//! Everything runs in one thread, so a counter is a plain number. No label is an id, because clients choose their ids and
//! could create any number of labels.

mod exposition;
mod histogram;
mod process;

pub(crate) use self::{exposition::CONTENT_TYPE, histogram::Histogram};

use self::exposition::Exposition;
use room_protocol::hub::Hub;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// The values that are counted outside the Hub.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: f64,
    /// WebSockets that were opened.
    pub(crate) opened: Counter,
    /// Messages that were sent to clients.
    pub(crate) delivered: Counter,
    /// Pauses in reading from connections that exceeded their rates.
    pub(crate) pauses: Counter,
    /// Connections that were closed because they held too much or read too slowly.
    pub(crate) slow_consumers: Counter,
    /// Connections without a request that were ended for newer ones.
    pub(crate) handshakes_ended: Counter,
    /// Bytes that were read from WebSockets.
    pub(crate) received_bytes: Counter,
    /// Connections of trusted proxies that did not begin with a PROXY header.
    pub(crate) proxy_errors: Counter,
    /// The delay with which tasks run.
    pub(crate) lag: Histogram,
    closes: RefCell<BTreeMap<u16, u64>>,
    turned_away: RefCell<BTreeMap<&'static str, u64>>,
    reload: Cell<Option<Reload>>,
    /// HTTP responses by status. 101 opens a WebSocket.
    answers: RefCell<BTreeMap<u16, u64>>,
}

/// The last reload of the configuration.
#[derive(Debug, Clone, Copy)]
struct Reload {
    /// UNIX time.
    at: f64,
    was_successful: bool,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(Cell<u64>);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.set(self.0.get() + count);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.get()
    }
}

/// The values that are read when `/metrics` is requested.
#[derive(Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) open: usize,
    pub(crate) handshakes: usize,
    pub(crate) panics: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) queued_bytes: usize,
    pub(crate) inbound_bytes: usize,
    pub(crate) http_bytes: usize,
    pub(crate) latency: &'a Histogram,
    /// The bytes of the connection that holds most.
    pub(crate) largest_queue: usize,
    /// Passwords that wait to be verified.
    pub(crate) passwords: usize,
    /// Tasks that wait for a turn in the lane.
    pub(crate) lane: usize,
    /// The expiry of the certificate, in UNIX time.
    pub(crate) certificate_end: Option<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            started: unix_time(),
            lag: Histogram::default(),
            closes: RefCell::default(),
            turned_away: RefCell::default(),
            reload: Cell::new(None),
            opened: Counter::default(),
            delivered: Counter::default(),
            pauses: Counter::default(),
            slow_consumers: Counter::default(),
            handshakes_ended: Counter::default(),
            received_bytes: Counter::default(),
            proxy_errors: Counter::default(),
            answers: RefCell::default(),
        }
    }

    /// Counts an HTTP response.
    pub(crate) fn answered(&self, status: u16) {
        *self.answers.borrow_mut().entry(status).or_default() += 1;
    }

    /// Counts a WebSocket that the server closes.
    pub(crate) fn closed(&self, code: u16) {
        *self.closes.borrow_mut().entry(code).or_default() += 1;
    }

    /// Counts a connection that a limit turned away.
    pub(crate) fn turned_away(&self, limit: &'static str) {
        *self.turned_away.borrow_mut().entry(limit).or_default() += 1;
    }

    /// Records a reload, which failed if the new configuration had errors.
    pub(crate) fn reloaded(&self, was_successful: bool) {
        self.reload.set(Some(Reload { at: unix_time(), was_successful }));
    }

    /// All metrics, in the text format of Prometheus.
    pub(crate) fn text(&self, now: &Snapshot<'_>) -> String {
        let mut out = Exposition::default();
        self.connections(&mut out, now);
        self.messages(&mut out, now);
        self.operation(&mut out, now);
        process::describe(&mut out, self.started);
        out.into_text()
    }

    fn connections(&self, out: &mut Exposition, now: &Snapshot<'_>) {
        let (senders, receivers) = now.hub.roles();
        out.gauges(
            "room_signaling_connections",
            "Connections by state: open WebSockets, and those whose request is not answered yet.",
            "state",
            [("open", now.open), ("handshake", now.handshakes)],
        );
        out.counter(
            "room_signaling_connections_opened_total",
            "WebSockets that were opened.",
            self.opened.get(),
        );
        let answers = self.answers.borrow();
        let answers = answers.iter().map(|(status, count)| (*status, *count));
        let help = "HTTP responses by status; 101 opens a WebSocket.";
        out.counters("room_signaling_http_responses_total", help, "status", answers);
        out.counter(
            "room_signaling_handshakes_ended_total",
            "Connections without a request that were ended for newer ones.",
            self.handshakes_ended.get(),
        );
        out.counter(
            "room_signaling_connection_panics_total",
            "Connections that ended because of a bug in the server.",
            now.panics,
        );
        out.gauge("room_signaling_rooms", "Rooms with at least one member.", now.hub.rooms());
        out.gauges(
            "room_signaling_members",
            "Members of all rooms by role.",
            "role",
            [("sender", senders), ("receiver", receivers)],
        );
        let draining = u8::from(now.hub.is_draining());
        out.gauge("room_signaling_draining", "1 while the server is shutting down.", draining);
    }

    fn operation(&self, out: &mut Exposition, now: &Snapshot<'_>) {
        out.histogram(
            "room_signaling_loop_lag_seconds",
            "How late the server's thread ran a task that was due, sampled four times a second.",
            &self.lag,
        );
        out.gauge(
            "room_signaling_lane_waiting",
            "Connections that wait for a turn in the low-priority lane.",
            now.lane,
        );
        let help = "Bytes held for the client that holds most.";
        out.gauge("room_signaling_largest_queue_bytes", help, now.largest_queue);
        let help = "Passwords that wait to be verified.";
        out.gauge("room_signaling_passwords_waiting", help, now.passwords);
        let closes = self.closes.borrow();
        let help = "WebSockets that the server closed, by close code.";
        let closes = closes.iter().map(|(code, count)| (*code, *count));
        out.counters("room_signaling_closes_total", help, "code", closes);
        let turned_away = self.turned_away.borrow();
        let help = "Connections that a limit turned away, by limit.";
        let turned_away = turned_away.iter().map(|(limit, count)| (*limit, *count));
        out.counters("room_signaling_turned_away_total", help, "limit", turned_away);
        let help = "Connections from trusted proxies that did not begin with a PROXY header.";
        out.counter("room_signaling_proxy_header_errors_total", help, self.proxy_errors.get());
        let help = "Expiry of the server's certificate, in UNIX time; 0 without TLS.";
        let end = now.certificate_end.unwrap_or_default();
        out.gauge("room_signaling_tls_certificate_not_after_seconds", help, end);
        let help = "Time of the last reload of the configuration, successful or not, in UNIX time; 0 before the first.";
        let last = self.reload.get();
        out.gauge("room_signaling_config_last_reload_seconds", help, last.map_or(0.0, |last| last.at));
        let help = "1 if the last reload of the configuration was successful.";
        let taken = u8::from(last.is_none_or(|last| last.was_successful));
        out.gauge("room_signaling_config_last_reload_successful", help, taken);
        out.gauges(
            "room_signaling_build_info",
            "The version of the server; the value is always 1.",
            "version",
            [(env!("CARGO_PKG_VERSION"), 1)],
        );
    }

    fn messages(&self, out: &mut Exposition, now: &Snapshot<'_>) {
        let counts = now.hub.counts();
        out.counters(
            "room_signaling_messages_received_total",
            "Messages from clients by type; other is a type that only clients know, bad is not a message.",
            "type",
            counts.messages(),
        );
        out.counter("room_signaling_messages_sent_total", "Messages to clients.", self.delivered.get());
        out.counter(
            "room_signaling_messages_relayed_total",
            "Messages from one member to another, counted once per recipient.",
            counts.relayed(),
        );
        let errors = counts.errors().map(|(code, count)| (code.as_str(), count));
        let help = "Errors that were sent to clients, by code.";
        out.counters("room_signaling_errors_total", help, "code", errors);
        let help = "Bytes that were read from WebSockets.";
        out.counter("room_signaling_received_bytes_total", help, self.received_bytes.get());
        let help = "Bytes that were written to WebSockets.";
        out.counter("room_signaling_sent_bytes_total", help, now.sent_bytes);
        out.counter(
            "room_signaling_pauses_total",
            "Pauses in reading from connections that exceeded their rates.",
            self.pauses.get(),
        );
        out.counter(
            "room_signaling_slow_consumers_total",
            "Connections that were closed because they held too much or read too slowly.",
            self.slow_consumers.get(),
        );
        let help = "Bytes that wait to be read by clients, in all queues.";
        out.gauge("room_signaling_queued_bytes", help, now.queued_bytes);
        let help = "Bytes of incomplete messages from clients, and of messages that wait to be handled.";
        out.gauge("room_signaling_inbound_bytes", help, now.inbound_bytes);
        let help = "Bytes of requests over HTTP and their responses.";
        out.gauge("room_signaling_http_bytes", help, now.http_bytes);
        out.histogram(
            "room_signaling_delivery_seconds",
            "Time from reading or creating a message until the kernel had accepted all of it, once per recipient.",
            now.latency,
        );
    }
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
