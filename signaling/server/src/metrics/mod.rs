//! What the server counts, and how `/metrics` tells it. docs/metrics.md explains each name.
//!
//! Everything runs in one thread, so a counter is a plain number: it costs next to nothing beside a message. No ids are
//! labels: whoever connects could make up any number of them.

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

/// What is counted outside of the Hub.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: f64,
    /// WebSockets that were opened.
    pub(crate) opened: Counter,
    /// Messages that went out, to whomever.
    pub(crate) delivered: Counter,
    /// Times that a connection was not read because it had said too much.
    pub(crate) pauses: Counter,
    /// Connections that were closed because their queue was full.
    pub(crate) slow_consumers: Counter,
    /// Connections without a request that were ended for newer ones.
    pub(crate) handshakes_ended: Counter,
    /// Bytes that were read from WebSockets.
    pub(crate) received_bytes: Counter,
    /// Connections of proxies without the header that they are to send.
    pub(crate) proxy_errors: Counter,
    /// How late a task is run that wants to be run now.
    pub(crate) lag: Histogram,
    closes: RefCell<BTreeMap<u16, u64>>,
    turned_away: RefCell<BTreeMap<&'static str, u64>>,
    reload: Cell<Option<Reload>>,
    /// Answers over HTTP by their status, 101 being a WebSocket.
    answers: RefCell<BTreeMap<u16, u64>>,
}

/// The last change of the configuration while the server ran.
#[derive(Debug, Clone, Copy)]
struct Reload {
    /// UNIX time.
    at: f64,
    was_taken: bool,
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
    /// What is held for the client that has most.
    pub(crate) largest_queue: usize,
    /// Passwords that wait to be checked.
    pub(crate) passwords: usize,
    /// Connections that wait in the lane.
    pub(crate) lane: usize,
    /// When the certificate ends, in UNIX time.
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

    /// A request was answered, or a connection was.
    pub(crate) fn answered(&self, status: u16) {
        *self.answers.borrow_mut().entry(status).or_default() += 1;
    }

    /// The server closes a connection.
    pub(crate) fn closed(&self, code: u16) {
        *self.closes.borrow_mut().entry(code).or_default() += 1;
    }

    /// A connection met a limit of connections.
    pub(crate) fn turned_away(&self, limit: &'static str) {
        *self.turned_away.borrow_mut().entry(limit).or_default() += 1;
    }

    /// Another configuration was taken, or refused because of its errors.
    pub(crate) fn reloaded(&self, was_taken: bool) {
        self.reload.set(Some(Reload { at: unix_time(), was_taken }));
    }

    /// Everything, in the text format of Prometheus.
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
            "Connections by what they are: open WebSockets, and those whose request is not answered yet.",
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
        let help = "Answers over HTTP by their status; 101 begins a WebSocket.";
        out.counters("room_signaling_http_responses_total", help, "status", answers);
        out.counter(
            "room_signaling_handshakes_ended_total",
            "Connections without a request that made way for newer ones.",
            self.handshakes_ended.get(),
        );
        out.counter(
            "room_signaling_connection_panics_total",
            "Connections that ended because of an error in the server itself.",
            now.panics,
        );
        out.gauge("room_signaling_rooms", "Rooms with somebody in them.", now.hub.rooms());
        out.gauges(
            "room_signaling_members",
            "Members of all rooms, by what they do there.",
            "role",
            [("sender", senders), ("receiver", receivers)],
        );
        let draining = u8::from(now.hub.is_draining());
        out.gauge("room_signaling_draining", "1 once the server has been told to stop.", draining);
    }

    fn operation(&self, out: &mut Exposition, now: &Snapshot<'_>) {
        out.histogram(
            "room_signaling_loop_lag_seconds",
            "How late the server's thread ran a task that was due, sampled four times a second.",
            &self.lag,
        );
        out.gauge("room_signaling_lane_waiting", "Connections that wait for a turn in the lane.", now.lane);
        let help = "Bytes that are held for one client, of the client that has most.";
        out.gauge("room_signaling_largest_queue_bytes", help, now.largest_queue);
        let help = "Passwords that wait to be checked.";
        out.gauge("room_signaling_passwords_waiting", help, now.passwords);
        let closes = self.closes.borrow();
        let help = "Connections that the server closed, by the code of the close frame.";
        let closes = closes.iter().map(|(code, count)| (*code, *count));
        out.counters("room_signaling_closes_total", help, "code", closes);
        let turned_away = self.turned_away.borrow();
        let help = "Connections that met a limit of connections, by the limit.";
        let turned_away = turned_away.iter().map(|(limit, count)| (*limit, *count));
        out.counters("room_signaling_turned_away_total", help, "limit", turned_away);
        let help = "Connections from trusted proxies that did not begin with a PROXY protocol header.";
        out.counter("room_signaling_proxy_header_errors_total", help, self.proxy_errors.get());
        let help = "When the server's certificate ends, in UNIX time; 0 without TLS.";
        let end = now.certificate_end.unwrap_or_default();
        out.gauge("room_signaling_tls_certificate_not_after_seconds", help, end);
        let help = "When the configuration was last reloaded, or that was tried, in UNIX time; 0: never.";
        let last = self.reload.get();
        out.gauge("room_signaling_config_last_reload_seconds", help, last.map_or(0.0, |last| last.at));
        let help = "Whether the configuration in force is the one that was last asked for.";
        let taken = u8::from(last.is_none_or(|last| last.was_taken));
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
            "Messages from clients by type; other is any word of their own, bad is no message.",
            "type",
            counts.messages(),
        );
        out.counter("room_signaling_messages_sent_total", "Messages to clients.", self.delivered.get());
        out.counter(
            "room_signaling_messages_relayed_total",
            "Messages from one member to another, one for each who got it.",
            counts.relayed(),
        );
        let errors = counts.errors().map(|(code, count)| (code.as_str(), count));
        let help = "Errors that clients were told of, by their code.";
        out.counters("room_signaling_errors_total", help, "code", errors);
        let help = "Bytes that were read from WebSockets.";
        out.counter("room_signaling_received_bytes_total", help, self.received_bytes.get());
        let help = "Bytes that were written to WebSockets.";
        out.counter("room_signaling_sent_bytes_total", help, now.sent_bytes);
        out.counter(
            "room_signaling_pauses_total",
            "Times that a connection was not read for a while because it had said more than it may.",
            self.pauses.get(),
        );
        out.counter(
            "room_signaling_slow_consumers_total",
            "Connections that were closed because too much waited for them.",
            self.slow_consumers.get(),
        );
        let help = "What waits for clients to read it, in all queues, with what keeping it costs.";
        out.gauge("room_signaling_queued_bytes", help, now.queued_bytes);
        let help = "Bytes of incomplete messages from clients, and of messages that wait for their turn.";
        out.gauge("room_signaling_inbound_bytes", help, now.inbound_bytes);
        let help = "Bytes of requests over HTTP and their responses.";
        out.gauge("room_signaling_http_bytes", help, now.http_bytes);
        out.histogram(
            "room_signaling_delivery_seconds",
            "From when a message was read, or made, to when the system had it whole for one who gets it.",
            now.latency,
        );
    }
}

fn unix_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
