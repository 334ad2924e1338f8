//! The thread that runs the show: who is in the room, whose session is where, when the encoder is asked for a keyframe.
//!
//! Everything that happens to receivers arrives here as a [`Command`] and is dealt with in order, so that session state
//! has one owner and no lock. The streaming threads only push into the fan-outs; webrtcbin's threads only send commands.

use super::{
    keyframes::KeyframeGate,
    negotiation::Codec,
    receiver::{Session, SessionConfig, SessionEvent, StreamInfo, Tell},
    receivers::{Phase, Receiver, Retry},
    settings::Settings,
    stats::{self, Shared},
};
use crate::{
    connection::{CAT, IceConfig},
    signaling::{SignalingSettings, SignalingState},
};
use gst::{glib, prelude::*};
use gst_webrtc::WebRTCPeerConnectionState as Connection;
use room_signaling_client::{
    Event, GoneReason, Handle, Media,
    protocol::{ClientId, SessionId},
    wire::{Body, ErrorCode, IceCandidate, IceServer, PeerEntry, Role, Signal},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// How often liveness and statistics are looked at while there are receivers.
const TICK: Duration = Duration::from_millis(500);
/// How long an offer may stay unanswered, and a connection may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the first stream waits for the caps of the other pads before receivers get what there is.
const GATHER_STREAMS: Duration = Duration::from_millis(500);
/// How long statistics of webrtcbin are gathered after somebody has read them.
const STATS_INTEREST: Duration = Duration::from_secs(5);

/// What the conductor is told.
pub(crate) enum Command {
    /// The signaling client says.
    Signaling(Event),
    /// The signaling client has said goodbye.
    SignalingEnded,
    /// Session number `.1` with this receiver says.
    Session(ClientId, u64, SessionEvent),
    /// The pipeline has (another) clock.
    Clock(gst::Clock),
    /// There is a pad whose stream is not known yet.
    PadAdded(u32, glib::WeakRef<gst::GhostPad>),
    /// The stream of a pad is known, or flows again after its end.
    PadReady(StreamInfo),
    /// The pad was released.
    PadGone(u32),
    /// The stream of a pad has ended; the answer comes when nothing of it waits to be sent any more.
    PadEnded(u32, mpsc::SyncSender<()>),
    /// Somebody needs a keyframe of this pad.
    Keyframe(u32),
    /// The action signals.
    RequestKeyframe,
    /// Ends the session with a receiver until it comes anew.
    Kick(String),
    /// Sends bytes to one receiver or to all.
    SendData(Option<String>, glib::Bytes),
    /// A property that may change while playing has changed.
    Settings(Settings),
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
    clock: Option<gst::Clock>,
    ice_servers: Vec<IceServer>,
    pads: BTreeMap<u32, Pad>,
    first_stream_at: Option<Instant>,
    receivers: BTreeMap<ClientId, Receiver>,
    next_serial: u64,
    next_tick: Instant,
    changed: bool,
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
            clock: None,
            ice_servers: Vec::new(),
            pads: BTreeMap::new(),
            first_stream_at: None,
            receivers: BTreeMap::new(),
            next_serial: 0,
            next_tick: Instant::now() + TICK,
            changed: true,
            stopping: None,
            teardowns: Vec::new(),
        };
        std::thread::Builder::new().name("room-conductor".into()).spawn(move || conductor.run()).map(|_| ())
    }

    fn run(mut self) {
        loop {
            let wait = self.deadline().saturating_duration_since(Instant::now());
            match self.commands.recv_timeout(wait) {
                Ok(Command::SignalingEnded) => {
                    if self.stopping.is_some() {
                        break;
                    }
                }
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
            Command::SignalingEnded => {}
            Command::Session(id, serial, event) => self.handle_session(&id, serial, event),
            Command::Clock(clock) => {
                self.sessions().for_each(|session| session.set_clock(&clock));
                self.clock = Some(clock);
            }
            Command::PadAdded(index, ghost) => {
                let keyframes = KeyframeGate::new(self.settings.keyframe_interval_min);
                self.pads.insert(index, Pad { ghost, stream: None, ended: false, keyframes });
            }
            Command::PadReady(stream) => self.pad_ready(stream),
            Command::PadGone(index) => {
                if self.pads.remove(&index).is_some_and(|pad| pad.stream.is_some()) {
                    self.offer_anew();
                }
            }
            Command::PadEnded(index, done) => self.pad_ended(index, &done),
            Command::Keyframe(index) => self.want_keyframe(index),
            Command::RequestKeyframe => {
                let pads: Vec<u32> = self.pads.keys().copied().collect();
                pads.into_iter().for_each(|index| self.want_keyframe(index));
            }
            Command::Kick(id) => self.kick(&id),
            Command::SendData(id, bytes) => self.send_data(id.as_deref(), &bytes),
            Command::Settings(settings) => {
                for pad in self.pads.values_mut() {
                    pad.keyframes.set_interval(settings.keyframe_interval_min);
                }
                self.settings = settings;
            }
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
                ghost.push_event(gst_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
            }
        }
    }

    fn end_the_silent(&mut self, now: Instant) {
        let timeout = self.settings.receiver_timeout;
        let silent: Vec<(ClientId, &str)> = self
            .receivers
            .iter()
            .filter_map(|(id, receiver)| match &receiver.phase {
                Phase::Offering { since, .. } if now.saturating_duration_since(*since) > PATIENCE => {
                    Some((id.clone(), "no answer"))
                }
                Phase::Connecting { since, .. } if now.saturating_duration_since(*since) > PATIENCE => {
                    Some((id.clone(), "no connection"))
                }
                Phase::Connected { session } if session.is_silent(now, timeout) => Some((id.clone(), "timeout")),
                _ => None,
            })
            .collect();
        for (id, reason) in silent {
            self.fail(&id, reason);
        }
    }

    fn gather_stats(&self) {
        if !self.shared.stats_read_within(STATS_INTEREST) {
            return;
        }
        for (id, receiver) in &self.receivers {
            if let Phase::Connected { session } = &receiver.phase {
                let tell = self.tell(id, receiver.serial);
                crate::connection::request_stats(&session.webrtcbin, move |stats| tell(SessionEvent::Stats(stats)));
            }
        }
    }

    // --- streams

    fn pad_ready(&mut self, stream: StreamInfo) {
        let Some(pad) = self.pads.get_mut(&stream.pad) else { return };
        let known = pad.stream.is_some();
        pad.ended = false;
        pad.stream = Some(stream);
        self.first_stream_at.get_or_insert_with(Instant::now);
        if !known {
            self.offer_anew();
        }
    }

    fn pad_ended(&mut self, index: u32, done: &mpsc::SyncSender<()>) {
        if let Some(pad) = self.pads.get_mut(&index) {
            pad.ended = true;
        }
        if self.pads.values().all(|pad| pad.ended) {
            let until = Instant::now() + super::fanout::DRAIN;
            while Instant::now() < until && self.sessions().any(|s| s.taps().any(|tap| !tap.level().is_zero())) {
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
        let waited = self.first_stream_at.is_some_and(|at| now.saturating_duration_since(at) >= GATHER_STREAMS);
        let flowing = self.pads.values().any(|pad| pad.stream.is_some() && !pad.ended);
        (flowing && (complete || waited)).then(|| known().collect())
    }

    fn want_keyframe(&mut self, index: u32) {
        if let Some(pad) = self.pads.get_mut(&index) {
            pad.keyframes.request(Instant::now());
        }
    }

    fn want_keyframes(&mut self) {
        let now = Instant::now();
        self.pads.values_mut().for_each(|pad| pad.keyframes.request(now));
    }

    // --- sessions

    fn start_waiting(&mut self, now: Instant) {
        let Some(streams) = self.streams(now) else { return };
        let Some(clock) = self.clock.clone() else { return };
        let waiting: Vec<ClientId> =
            self.receivers.iter().filter(|(_, r)| r.phase.is_due(now)).map(|(id, _)| id.clone()).collect();
        if waiting.is_empty() {
            return;
        }
        let ice = self.signaling.ice(&self.ice_servers);
        for id in waiting {
            let limit = usize::try_from(self.settings.max_receivers).unwrap_or(usize::MAX);
            if limit > 0 && self.sessions().count() >= limit {
                gst::info!(CAT, "max-receivers={limit} is reached: {id} waits");
                return;
            }
            self.start_session(&id, &streams, &clock, &ice);
        }
    }

    fn start_session(&mut self, id: &ClientId, streams: &[StreamInfo], clock: &gst::Clock, ice: &IceConfig) {
        self.next_serial = self.next_serial.wrapping_add(1);
        let serial = self.next_serial;
        let tell = self.tell(id, serial);
        let config = SessionConfig {
            id: random_session_id(),
            streams,
            clock,
            ice,
            retransmission: self.settings.retransmission,
            data_channel: self.settings.data_channel,
        };
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        receiver.serial = serial;
        match Session::start(config, &tell) {
            Ok(session) => {
                let webrtcbin = session.webrtcbin.clone();
                receiver.phase = Phase::Offering { session, since: Instant::now() };
                self.announce_added(id, &webrtcbin);
                if let Some(session) = self.receivers.get(id).and_then(|r| r.phase.session()) {
                    session.ask_for_offer(&tell);
                }
            }
            Err(error) => {
                gst::error!(CAT, "no session for {id}: {error}");
                receiver.phase = Phase::Idle { retry: receiver.retry_after_failure() };
            }
        }
    }

    fn tell(&self, id: &ClientId, serial: u64) -> Tell {
        tell_to(&self.sender, id, serial)
    }

    fn handle_session(&mut self, id: &ClientId, serial: u64, event: SessionEvent) {
        let tell = self.tell(id, serial);
        let Some(receiver) = self.receivers.get_mut(id).filter(|r| r.serial == serial) else { return };
        let Some(session) = receiver.phase.session_mut() else { return };
        match event {
            SessionEvent::Offer(offer) => match session.take_offer(&offer, &tell) {
                Ok(sdp) => {
                    let signal = address(id, &session.id, Body::Offer { sdp });
                    self.handle.send(signal);
                    self.handle.media(id, Media::Started);
                }
                Err(words) => self.fail(id, &words),
            },
            SessionEvent::OfferSet => session.watch_reports(),
            SessionEvent::Candidate(m_line, candidate) => {
                let candidate =
                    IceCandidate { candidate, sdp_mid: session.mid_of(m_line), sdp_m_line_index: Some(m_line) };
                self.handle.send(address(id, &session.id, Body::Candidate { candidate }));
            }
            SessionEvent::Connection(state) => self.connection_changed(id, state),
            SessionEvent::KeyframeWanted(pad) => self.want_keyframe(pad),
            SessionEvent::Data(label, bytes) => {
                if let Some(element) = self.element.upgrade() {
                    element.emit_by_name::<()>("data", &[&id.as_str(), &label, &bytes]);
                }
            }
            SessionEvent::Stats(stats) => receiver.webrtc_stats = Some(stats),
            SessionEvent::Failed(words) => self.fail(id, &words),
        }
    }

    fn connection_changed(&mut self, id: &ClientId, state: Connection) {
        gst::info!(CAT, "{id}: connection {state:?}");
        match state {
            Connection::Connected => {
                let Some(receiver) = self.receivers.get_mut(id) else { return };
                if receiver.connected() {
                    self.changed = true;
                    self.handle.media(id, Media::Connected);
                    self.want_keyframes();
                }
            }
            Connection::Failed => self.fail(id, "connection failed"),
            Connection::Closed => self.fail(id, "connection closed"),
            _ => {}
        }
    }

    /// The session can't go on; if its peer is still there, it gets another one later.
    fn fail(&mut self, id: &ClientId, reason: &str) {
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let retry = receiver.retry_after_failure();
        gst::warning!(CAT, "{id}: {reason}");
        self.end_session(id, reason, retry, true);
    }

    /// Ends the session with a receiver, which stays known.
    fn end_session(&mut self, id: &ClientId, reason: &str, retry: Retry, say_bye: bool) {
        let Some(receiver) = self.receivers.get_mut(id) else { return };
        let phase = std::mem::replace(&mut receiver.phase, Phase::Idle { retry });
        receiver.webrtc_stats = None;
        let Some(session) = phase.into_session() else { return };
        if say_bye {
            self.handle.send(address(id, &session.id, Body::Bye));
        }
        self.teardowns.extend(session.end());
        self.handle.media(id, Media::Ended);
        self.announce_removed(id, reason);
    }

    fn end_all(&mut self, reason: &str) {
        let all: Vec<ClientId> = self.receivers.keys().cloned().collect();
        for id in all {
            self.end_session(&id, reason, Retry::Now, true);
        }
    }

    fn kick(&mut self, id: &str) {
        let known = self.receivers.get_key_value(id).map(|(id, _)| id.clone());
        match known {
            Some(id) => self.end_session(&id, "kicked", Retry::Never, true),
            None => gst::warning!(CAT, "kick: there is no receiver {id:?}"),
        }
    }

    fn send_data(&self, id: Option<&str>, bytes: &glib::Bytes) {
        for (to, receiver) in self.receivers.iter().filter(|(to, _)| id.is_none_or(|id| id == to.as_str())) {
            if let Phase::Connected { session } = &receiver.phase
                && let Err(words) = session.send_data(bytes)
            {
                gst::warning!(CAT, "send-data to {to}: {words}");
            }
        }
    }

    // --- signaling

    fn handle_signaling(&mut self, event: Event) {
        match event {
            Event::State(state) => self.signaling_state(state.into()),
            Event::Joined { client_id, ice_servers } => {
                gst::info!(CAT, "in the room as {client_id}");
                self.ice_servers = ice_servers;
            }
            Event::PeerReady(peer) => self.peer_ready(peer),
            Event::PeerChanged(peer) => {
                if let Some(receiver) = self.receivers.get_mut(&peer.client_id) {
                    receiver.peer = peer;
                    receiver.phase.wake();
                }
            }
            Event::PeerGone(id, reason) => {
                let words = match reason {
                    GoneReason::Left => "left",
                    GoneReason::Replaced => "replaced",
                    GoneReason::Absent => "absent",
                };
                self.end_session(&id, words, Retry::Never, false);
                self.receivers.remove(&id);
            }
            Event::Signal(signal) => self.handle_signal(signal),
            Event::Refused { code, message, target_id, .. } => {
                gst::warning!(CAT, "the server refused something: {message}");
                if code == ErrorCode::TargetBusy
                    && let Some(id) = target_id.and_then(|id| ClientId::new(id).ok())
                {
                    self.end_session(&id, "busy", Retry::At(Instant::now() + PATIENCE), false);
                }
            }
            Event::Failed(failure) => {
                self.signaling_state(SignalingState::Failed);
                if let Some(element) = self.element.upgrade() {
                    gst::element_error!(element, gst::ResourceError::Settings, ["{}", failure.message]);
                }
            }
        }
    }

    fn peer_ready(&mut self, peer: PeerEntry) {
        let wanted = self.settings.target_id.as_deref().is_none_or(|target| target == peer.client_id.as_str());
        if peer.role != Role::Receiver || !wanted {
            return;
        }
        let meta = peer.meta.as_ref().map(ToString::to_string);
        let allowed = self
            .element
            .upgrade()
            .is_none_or(|element| element.emit_by_name("authorize-receiver", &[&peer.client_id.as_str(), &meta]));
        let retry = if allowed { Retry::Now } else { Retry::Never };
        if !allowed {
            gst::info!(CAT, "{} was not authorized", peer.client_id);
        }
        self.end_session(&peer.client_id, "replaced", retry, false);
        self.receivers.insert(peer.client_id.clone(), Receiver::new(peer, retry));
    }

    fn handle_signal(&mut self, signal: Signal) {
        let Some(id) = signal.from else { return };
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        let (sender, serial) = (self.sender.clone(), receiver.serial);
        let Some(session) = receiver.phase.session_mut() else { return };
        if signal.session_id.is_some_and(|named| named != session.id) {
            gst::debug!(CAT, "{id}: a message for a session that is over");
            return;
        }
        match signal.body {
            Body::Answer { sdp } if !session.answered() => {
                if let Err(words) = receiver.answered(&sdp, &tell_to(&sender, &id, serial)) {
                    self.fail(&id, &words);
                }
            }
            Body::Answer { .. } => gst::warning!(CAT, "{id}: a second answer is ignored"),
            Body::Candidate { candidate } => session.add_candidate(&candidate),
            Body::Bye => self.end_session(&id, "bye", Retry::Never, false),
            Body::Offer { .. } => gst::warning!(CAT, "{id}: an offer to a sender is ignored"),
        }
    }

    fn signaling_state(&mut self, state: SignalingState) {
        let Some(element) = self.element.upgrade() else { return };
        if self.shared.set_signaling_state(state) {
            element.notify("signaling-state");
            post(&element, gst::Structure::builder("room-signaling-state").field("state", state).build());
        }
    }

    // --- telling the application

    fn announce_added(&mut self, id: &ClientId, webrtcbin: &gst::Element) {
        self.changed = true;
        let Some(element) = self.element.upgrade() else { return };
        element.emit_by_name::<()>("receiver-added", &[&id.as_str(), webrtcbin]);
        post(&element, gst::Structure::builder("room-receiver-added").field("id", id.as_str()).build());
    }

    fn announce_removed(&mut self, id: &ClientId, reason: &str) {
        self.changed = true;
        let Some(element) = self.element.upgrade() else { return };
        element.emit_by_name::<()>("receiver-removed", &[&id.as_str(), &reason]);
        let message = gst::Structure::builder("room-receiver-removed").field("id", id.as_str()).field("reason", reason);
        post(&element, message.build());
    }
}

/// Sends the events of session number `serial` to the conductor.
fn tell_to(sender: &mpsc::Sender<Command>, id: &ClientId, serial: u64) -> Tell {
    let (sender, id) = (sender.clone(), id.clone());
    Arc::new(move |event| {
        let _ = sender.send(Command::Session(id.clone(), serial, event));
    })
}

fn post(element: &super::RoomWebRtcSink, structure: gst::Structure) {
    let _ = element.post_message(gst::message::Element::builder(structure).src(element).build());
}

fn address(to: &ClientId, session: &SessionId, body: Body) -> Signal {
    Signal { body, target_id: Some(to.clone()), session_id: Some(session.clone()), from: None }
}

/// 64 random bits: unique among the sessions of one pair of peers, which is all that is asked of it.
fn random_session_id() -> SessionId {
    let bits = (u64::from(glib::random_int()) << 32) | u64::from(glib::random_int());
    SessionId::new(format!("{bits:016x}")).expect("16 hexadecimal digits are an id")
}

impl Codec {
    /// For logs and statistics.
    pub(crate) fn as_str(self) -> &'static str {
        self.encoding_name()
    }
}
