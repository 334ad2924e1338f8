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
    /// Handshakes that made way for newer ones.
    pub(crate) made_way: Counter,
    /// Answers over HTTP by their status, 101 being a WebSocket.
    answers: RefCell<BTreeMap<u16, u64>>,
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

/// What is looked up when somebody asks.
#[derive(Debug)]
pub(crate) struct Now<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) open: usize,
    pub(crate) handshakes: usize,
    pub(crate) panics: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) queued_bytes: usize,
    pub(crate) inbound_bytes: usize,
    pub(crate) latency: &'a Histogram,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Self {
            started,
            opened: Counter::default(),
            delivered: Counter::default(),
            pauses: Counter::default(),
            slow_consumers: Counter::default(),
            made_way: Counter::default(),
            answers: RefCell::default(),
        }
    }

    /// A request was answered, or a connection was.
    pub(crate) fn answered(&self, status: u16) {
        *self.answers.borrow_mut().entry(status).or_default() += 1;
    }

    /// Everything, in the text format of Prometheus.
    pub(crate) fn text(&self, now: &Now<'_>) -> String {
        let mut out = Exposition::default();
        self.connections(&mut out, now);
        self.messages(&mut out, now);
        process::describe(&mut out, self.started);
        out.into_text()
    }

    fn connections(&self, out: &mut Exposition, now: &Now<'_>) {
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
            self.made_way.get(),
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

    fn messages(&self, out: &mut Exposition, now: &Now<'_>) {
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
        out.counter("room_signaling_received_bytes_total", help, now.received_bytes);
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
        out.histogram(
            "room_signaling_delivery_seconds",
            "From when a message was read, or made, to when the system had it whole for one who gets it.",
            now.latency,
        );
    }
}
