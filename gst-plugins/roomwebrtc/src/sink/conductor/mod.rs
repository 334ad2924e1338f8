//! The thread that runs the show: who is in the room, whose session is where, when the encoder is asked for a keyframe.
//!
//! Everything that happens to receivers arrives here as a [`Command`] and is dealt with in order, so that session state
//! has one owner and no lock. The streaming threads only push into the fan-outs; webrtcbin's threads only send commands.

mod room;
mod sessions;

use super::{
    keyframes::KeyframeGate,
    receivers::{Phase, Receiver, Retry, Step},
    session::{Session, SessionEvent, StreamInfo},
    settings::Settings,
    stats::{self, Shared},
};
use crate::{log::CAT, signaling::SignalingSettings, stream_key::StreamKey};
use gst::{glib, prelude::*};
use room_signaling_client::{Event, Handle, protocol::ClientId, wire::IceServer};
use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// How often liveness and statistics are looked at while there are receivers.
const TICK: Duration = Duration::from_millis(500);
/// How long an offer may stay unanswered, and a connection may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the first candidate may take, unless it has to come from a TURN server.
const GATHERING: Duration = Duration::from_secs(2);
/// How long the first stream waits for the caps of the other pads before receivers get what there is.
const GATHER_STREAMS: Duration = Duration::from_millis(500);
/// A keyframe request this soon after a keyframe was made before that one arrived.
const CROSSING: Duration = Duration::from_millis(150);
/// How long statistics of webrtcbin are gathered after somebody has read them.
const STATS_INTEREST: Duration = Duration::from_secs(5);

/// What the conductor is told.
pub(crate) enum Command {
    /// The signaling client says.
    Signaling(Event),
    /// The signaling client has ended.
    SignalingEnded,
    /// Session number `.1` with this receiver says.
    Session(ClientId, u64, SessionEvent),
    /// There is a pad whose stream is not known yet.
    PadAdded(StreamKey, glib::WeakRef<gst::GhostPad>),
    /// The stream of a pad is known, or flows again after its end.
    PadReady(StreamInfo),
    /// The pad was released.
    PadGone(StreamKey),
    /// The stream of a pad has ended; the answer comes when nothing of it waits to be sent any more.
    PadEnded(StreamKey, mpsc::SyncSender<()>),
    /// Somebody needs a keyframe of this pad.
    Keyframe(StreamKey),
    /// The action signals.
    RequestKeyframe,
    /// Ends the session with a receiver until it comes anew.
    Kick(String),
    /// Sends bytes to one receiver or to all.
    SendData(Option<String>, glib::Bytes),
    /// A property that may change while playing has changed.
    Settings(Settings),
    /// The property `token` was set.
    Token(String),
    /// Say goodbye and end; the answer comes when that is done.
    Stop(mpsc::SyncSender<()>),
}

/// A pad as the conductor sees it.
struct Pad {
    ghost: glib::WeakRef<gst::GhostPad>,
    stream: Option<StreamInfo>,
    ended: bool,
    keyframes: KeyframeGate,
}

pub(crate) struct Conductor {
    element: glib::WeakRef<super::RoomWebRtcSink>,
    commands: mpsc::Receiver<Command>,
    sender: mpsc::Sender<Command>,
    handle: Handle,
    shared: Arc<Shared>,
    signaling: SignalingSettings,
    settings: Settings,
    ice_servers: Vec<IceServer>,
    /// What was said of the servers that can't be used.
    unusable_ice_servers: Vec<String>,
    pads: BTreeMap<StreamKey, Pad>,
    first_stream_at: Option<Instant>,
    receivers: BTreeMap<ClientId, Receiver>,
    next_serial: u64,
    next_tick: Instant,
    changed: bool,
    /// The signaling client has ended: after a goodbye, or by itself when the server refused it for good.
    signaling_over: bool,
    stopping: Option<mpsc::SyncSender<()>>,
    teardowns: Vec<std::thread::JoinHandle<()>>,
}

/// What a [`Conductor`] starts with.
pub(crate) struct Start {
    pub(crate) element: glib::WeakRef<super::RoomWebRtcSink>,
    pub(crate) channel: (mpsc::Sender<Command>, mpsc::Receiver<Command>),
    pub(crate) handle: Handle,
    pub(crate) shared: Arc<Shared>,
    pub(crate) signaling: SignalingSettings,
    pub(crate) settings: Settings,
}

impl Conductor {
    /// Runs until [`Command::Stop`] on a thread of its own.
    pub(crate) fn spawn(start: Start) -> std::io::Result<()> {
        let (sender, commands) = start.channel;
        let conductor = Self {
            element: start.element,
            commands,
            sender,
            handle: start.handle,
            shared: start.shared,
            signaling: start.signaling,
            settings: start.settings,
            ice_servers: Vec::new(),
            unusable_ice_servers: Vec::new(),
            pads: BTreeMap::new(),
            first_stream_at: None,
            receivers: BTreeMap::new(),
            next_serial: 0,
            next_tick: Instant::now() + TICK,
            changed: true,
            signaling_over: false,
            stopping: None,
            teardowns: Vec::new(),
        };
        std::thread::Builder::new().name("room-conductor".into()).spawn(move || conductor.run()).map(|_| ())
    }

    fn run(mut self) {
        while self.stopping.is_none() || !self.signaling_over {
            let wait = self.deadline().saturating_duration_since(Instant::now());
            match self.commands.recv_timeout(wait) {
                Ok(command) => self.handle_command(command),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            self.handle_time(Instant::now());
        }
        for teardown in self.teardowns.drain(..) {
            let _ = teardown.join();
        }
        if let Some(done) = self.stopping.take() {
            let _ = done.send(());
        }
    }

    fn deadline(&self) -> Instant {
        self.pads.values().filter_map(|pad| pad.keyframes.deadline()).fold(self.next_tick, Instant::min)
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Signaling(event) => self.handle_signaling(event),
            Command::SignalingEnded => self.signaling_over = true,
            Command::Session(id, serial, event) => self.handle_session(&id, serial, event),
            Command::PadAdded(key, ghost) => {
                let keyframes = KeyframeGate::new(self.settings.keyframe_interval_min);
                self.pads.insert(key, Pad { ghost, stream: None, ended: false, keyframes });
            }
            Command::PadReady(stream) => self.pad_ready(stream),
            Command::PadGone(key) => {
                if self.pads.remove(&key).is_some_and(|pad| pad.stream.is_some()) {
                    self.offer_anew();
                }
            }
            Command::PadEnded(key, done) => self.pad_ended(key, &done),
            Command::Keyframe(key) => {
                gst::debug!(CAT, "a receiver waits for a keyframe of {key}");
                self.want_keyframe(key);
            }
            Command::RequestKeyframe => self.want_keyframes(),
            Command::Kick(id) => self.kick(&id),
            Command::SendData(id, bytes) => self.send_data(id.as_deref(), &bytes),
            Command::Settings(settings) => {
                for pad in self.pads.values_mut() {
                    pad.keyframes.set_interval(settings.keyframe_interval_min);
                }
                self.settings = settings;
            }
            Command::Token(token) => self.handle.set_token(&token),
            Command::Stop(done) => {
                self.end_all("closed");
                self.handle.shutdown();
                self.stopping = Some(done);
            }
        }
    }

    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.receivers.values().filter_map(|receiver| receiver.phase.session())
    }

    // --- time

    fn handle_time(&mut self, now: Instant) {
        self.force_keyframes(now);
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.changed = true;
            self.teardowns.retain(|teardown| !teardown.is_finished());
            self.end_the_silent(now);
            self.gather_stats();
        }
        if self.stopping.is_none() {
            self.start_waiting(now);
        }
        if std::mem::take(&mut self.changed) {
            let streams = self.pads.values().filter_map(|pad| pad.stream.as_ref());
            stats::publish(&self.shared, &self.receivers, streams, now);
        }
    }

    /// Sends the keyframe requests that are due upstream. No lock is held: the event may travel far.
    fn force_keyframes(&mut self, now: Instant) {
        for pad in self.pads.values_mut() {
            let Some(stream) = &pad.stream else { continue };
            if pad.keyframes.poll(now, stream.fanout.last_keyframe())
                && let Some(ghost) = pad.ghost.upgrade()
            {
                gst::debug!(CAT, obj = ghost, "asking the encoder for a keyframe");
                self.shared.keyframe_forced();
                stream.fanout.count_keyframe_request();
                ghost.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
            }
        }
    }

    fn end_the_silent(&mut self, now: Instant) {
        let timeout = self.settings.receiver_timeout;
        let reason = |receiver: &Receiver| {
            let Phase::Active { session, step } = &receiver.phase else { return None };
            let older = |since: Instant, than| now.saturating_duration_since(since) > than;
            match *step {
                Step::Preparing { since } if older(since, GATHERING) => {
                    Some("no address of this machine to be reached at")
                }
                Step::Offering { since } if older(since, PATIENCE) => Some("no answer"),
                Step::Connecting { since } if older(since, PATIENCE) => Some("no connection"),
                Step::Connected if session.is_silent(now, timeout) => Some("timeout"),
                _ => None,
            }
        };
        let silent: Vec<(ClientId, &str)> = self
            .receivers
            .iter()
            .filter_map(|(id, receiver)| Some((id.clone(), reason(receiver)?)))
            .collect();
        for (id, reason) in silent {
            self.fail(&id, reason);
        }
    }

    fn gather_stats(&self) {
        if !self.shared.stats_read_within(STATS_INTEREST) {
            return;
        }
        let connected = self.receivers.values().filter_map(|receiver| receiver.phase.connected());
        connected.for_each(Session::request_stats);
    }

    // --- streams

    fn pad_ready(&mut self, stream: StreamInfo) {
        let Some(pad) = self.pads.get_mut(&stream.key) else { return };
        let known = pad.stream.is_some();
        pad.ended = false;
        pad.stream = Some(stream);
        self.first_stream_at.get_or_insert_with(Instant::now);
        if !known {
            self.offer_anew();
        }
    }

    fn pad_ended(&mut self, key: StreamKey, done: &mpsc::SyncSender<()>) {
        if let Some(pad) = self.pads.get_mut(&key) {
            pad.ended = true;
        }
        if self.pads.values().all(|pad| pad.ended) {
            let until = Instant::now() + super::fanout::DRAIN;
            while Instant::now() < until
                && self.sessions().any(|s| s.taps().any(|tap| !tap.level().is_zero()))
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            self.end_all("ended");
        }
        let _ = done.try_send(());
    }

    /// The set of streams changed: receivers that can take another session get one. An old one has a single peer
    /// connection for its life and keeps what it has.
    fn offer_anew(&mut self) {
        let again: Vec<ClientId> = self
            .receivers
            .iter()
            .filter(|(_, receiver)| receiver.phase.session().is_some() && receiver.peer.protocol > 0)
            .map(|(id, _)| id.clone())
            .collect();
        for id in again {
            self.end_session(&id, "streams changed", Retry::Now, true);
        }
    }

    fn streams(&self, now: Instant) -> Option<Vec<StreamInfo>> {
        let known = || self.pads.values().filter_map(|pad| pad.stream.clone());
        let complete = known().count() == self.pads.len();
        let waited =
            self.first_stream_at.is_some_and(|at| now.saturating_duration_since(at) >= GATHER_STREAMS);
        let flowing = self.pads.values().any(|pad| pad.stream.is_some() && !pad.ended);
        (flowing && (complete || waited)).then(|| known().collect())
    }

    fn want_keyframe(&mut self, key: StreamKey) {
        if let Some(pad) = self.pads.get_mut(&key) {
            pad.keyframes.request(Instant::now());
        }
    }

    /// A receiver asked over the network. Its words crossed a keyframe that is on its way: it has what it wants, and if
    /// that one is lost it asks again. Without this every join would cost two keyframes.
    fn keyframe_asked_for(&mut self, key: StreamKey) {
        let last = self.pads.get(&key).and_then(|pad| pad.stream.as_ref()?.fanout.last_keyframe());
        if last.is_none_or(|at| at.elapsed() >= CROSSING) {
            self.want_keyframe(key);
        }
    }

    fn want_keyframes(&mut self) {
        let now = Instant::now();
        self.pads.values_mut().for_each(|pad| pad.keyframes.request(now));
    }
}

/// Posts an element message.
fn post(element: &super::RoomWebRtcSink, structure: gst::Structure) {
    let _ = element.post_message(gst::message::Element::builder(structure).src(element).build());
}
