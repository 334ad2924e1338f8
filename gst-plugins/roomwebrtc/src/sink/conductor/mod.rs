//! The conductor: the thread that owns all media sessions. It receives signaling events, session events and actions as
//! [`Command`]s, passes them to the roster together with the time, and performs the roster's outputs.
//!
//! Because sessions have a single owner, they need no lock. Streaming threads only push into the fan-outs, and webrtcbin's
//! threads only send commands.

mod pads;
mod perform;
mod signaling;
mod stats;

use super::{
    published::PublishedState,
    roster::{Input, Limits, Roster},
    session::{Session, SessionEvent, StreamInfo},
    settings::{RuntimeSettings, Settings},
};
use crate::{guard, log::CAT, signaling::SignalingSettings, stream_key::StreamKey};
use gst::glib;
use gst_webrtc::WebRTCICETransportPolicy;
use pads::Pads;
use room_signaling_client::{
    Event, Handle,
    protocol::{ClientId, SessionId},
    wire::IceServer,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// The interval of liveness checks and of statistics while there are sessions.
const TICK: Duration = Duration::from_millis(500);
/// How long webrtcbin's statistics are requested after the application has read `stats`.
const STATS_INTEREST: Duration = Duration::from_secs(5);
/// The maximum number of commands in one iteration. Pending commands are handled before the next session starts, but a
/// flood of them must not prevent its start.
const COMMANDS_PER_TURN: usize = 64;

/// An input of the conductor.
pub(crate) enum Command {
    /// An event of the signaling client.
    Signaling(Event),
    /// The signaling client has ended.
    SignalingEnded,
    /// An event of a session with a receiver.
    Session(ClientId, SessionId, SessionEvent),
    /// A pad was requested, or existed when the element started.
    PadAdded(StreamKey, glib::WeakRef<gst::GhostPad>),
    /// The codec of a pad is known, or its stream flows again after EOS.
    PadReady(StreamInfo),
    /// A pad was released.
    PadGone(StreamKey),
    /// A pad received EOS. The reply follows once no unit of the stream is queued.
    PadEnded(StreamKey, mpsc::SyncSender<()>),
    /// A receiver is waiting for a keyframe of this pad.
    KeyframeNeeded(StreamKey),
    /// The action `request-keyframe`.
    RequestKeyframe,
    /// The action `kick`.
    Kick(String),
    /// The action `send-data`, for one receiver or, with `None`, for all.
    SendData(Option<String>, glib::Bytes),
    /// A property that takes effect in PLAYING was set.
    Settings(RuntimeSettings),
    /// The property `token` was set.
    Token(String),
    /// The element stops: end all sessions and leave the room. The reply follows when this is done.
    Stop(mpsc::SyncSender<()>),
    #[cfg(test)]
    Panic,
}

/// A session that has not ended.
pub(crate) struct ActiveSession {
    pub(crate) session: Session,
    /// webrtcbin's statistics, if they were requested.
    pub(crate) webrtc_stats: Option<gst::Structure>,
}

pub(crate) struct Conductor {
    element: glib::WeakRef<super::RoomWebRtcSink>,
    commands: mpsc::Receiver<Command>,
    sender: mpsc::Sender<Command>,
    handle: Handle,
    published: Arc<PublishedState>,
    signaling: SignalingSettings,
    settings: Settings,
    ice_servers: Vec<IceServer>,
    /// The warnings about ICE servers that cannot be used.
    unusable_ice_servers: Vec<String>,
    pads: Pads,
    roster: Roster,
    sessions: BTreeMap<ClientId, ActiveSession>,
    next_tick: Option<Instant>,
    changed: bool,
    /// Whether the signaling client has ended: because the element stops, or because the server refused it permanently.
    signaling_over: bool,
    stopping: Option<mpsc::SyncSender<()>>,
    teardowns: Vec<JoinHandle<()>>,
}

/// The parameters of a [`Conductor`].
pub(crate) struct ConductorConfig {
    pub(crate) element: glib::WeakRef<super::RoomWebRtcSink>,
    pub(crate) sender: mpsc::Sender<Command>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) handle: Handle,
    pub(crate) published: Arc<PublishedState>,
    pub(crate) signaling: SignalingSettings,
    pub(crate) settings: Settings,
}

impl Conductor {
    /// Starts the thread, which runs until [`Command::Stop`]. If it panics, the element posts an error.
    pub(crate) fn spawn(start: ConductorConfig) -> std::io::Result<()> {
        let relay_only = start.signaling.ice_transport_policy == WebRTCICETransportPolicy::Relay;
        let limits = limits(&start.settings, relay_only);
        let seed = (u64::from(glib::random_int()) << 32) | u64::from(glib::random_int());
        let element = start.element.clone();
        let mut conductor = Self {
            element: start.element,
            commands: start.commands,
            sender: start.sender,
            handle: start.handle,
            published: start.published,
            pads: Pads::new(start.settings.runtime.keyframe_interval_min),
            signaling: start.signaling,
            settings: start.settings,
            ice_servers: Vec::new(),
            unusable_ice_servers: Vec::new(),
            roster: Roster::new(limits, seed, Instant::now()),
            sessions: BTreeMap::new(),
            next_tick: None,
            changed: true,
            signaling_over: false,
            stopping: None,
            teardowns: Vec::new(),
        };
        let run = move || {
            guard::run(&element, "the conductor", || conductor.run());
            conductor.finish();
        };
        std::thread::Builder::new().name("room-conductor".into()).spawn(run).map(|_| ())
    }

    fn run(&mut self) {
        while self.stopping.is_none() || !self.signaling_over {
            let command = match self.deadline() {
                Some(at) => self.commands.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => self.commands.recv().map_err(mpsc::RecvTimeoutError::from),
            };
            match command {
                Ok(command) => self.handle_command(command),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            for _ in 1..COMMANDS_PER_TURN {
                let Ok(command) = self.commands.try_recv() else { break };
                self.handle_command(command);
            }
            self.handle_time(Instant::now());
        }
    }

    /// Waits for the teardown of all sessions. Only after a panic are there sessions left to end.
    fn finish(&mut self) {
        self.handle.shutdown();
        let left = std::mem::take(&mut self.sessions);
        self.teardowns.extend(left.values().filter_map(|active| active.session.end()));
        for teardown in self.teardowns.drain(..) {
            let _ = teardown.join();
        }
        if let Some(done) = self.stopping.take() {
            let _ = done.send(());
        }
    }

    fn deadline(&self) -> Option<Instant> {
        [self.next_tick, self.roster.poll_timeout(), self.pads.deadline()].into_iter().flatten().min()
    }

    fn handle_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Signaling(event) => self.handle_signaling(now, event),
            Command::SignalingEnded => self.signaling_over = true,
            Command::Session(id, session, event) => self.handle_session_event(now, &id, session, event),
            Command::PadAdded(key, ghost) => self.pads.add(key, ghost),
            Command::PadReady(stream) => {
                self.pads.ready(now, stream);
                self.changed = true;
            }
            Command::PadGone(key) => {
                self.pads.remove(key);
                self.changed = true;
            }
            Command::PadEnded(key, done) => self.pads.ended(now, key, done),
            Command::KeyframeNeeded(key) => {
                gst::debug!(CAT, "a receiver is waiting for a keyframe of {key}");
                self.pads.request_keyframe(now, key);
            }
            Command::RequestKeyframe => self.pads.request_keyframes(now),
            Command::Kick(id) => self.update_roster(now, Input::Kick(id)),
            Command::SendData(id, bytes) => self.send_data(id.as_deref(), &bytes),
            Command::Settings(live) => {
                self.settings.runtime = live;
                self.pads.set_keyframe_interval(live.keyframe_interval_min);
                let relay_only = self.signaling.ice_transport_policy == WebRTCICETransportPolicy::Relay;
                self.update_roster(now, Input::Limits(limits(&self.settings, relay_only)));
            }
            Command::Token(token) => self.handle.set_token(&token),
            Command::Stop(done) => {
                self.update_roster(now, Input::Stop);
                self.handle.shutdown();
                self.stopping = Some(done);
            }
            #[cfg(test)]
            Command::Panic => panic!("requested by a test"),
        }
    }

    fn update_roster(&mut self, now: Instant, input: Input) {
        self.roster.handle(now, input);
        self.perform_outputs();
    }

    fn handle_time(&mut self, now: Instant) {
        self.pads.drain(now, || self.sessions.values().any(|active| active.session.is_queued()));
        let streams = self.pads.streams(now);
        self.update_roster(now, Input::Streams(streams));
        self.update_roster(now, Input::Flowing(self.pads.are_flowing()));
        self.roster.handle_timeout(now);
        self.perform_outputs();
        self.pads.force_keyframes(now, &self.published);
        if self.next_tick.is_some_and(|at| at <= now) {
            self.end_silent_sessions(now);
            self.gather_stats();
            self.changed = true;
        }
        if self.sessions.is_empty() {
            self.next_tick = None;
        } else if self.next_tick.is_none_or(|at| at <= now) {
            self.next_tick = Some(now + TICK);
        }
        if std::mem::take(&mut self.changed) {
            self.publish(now);
        }
    }

    fn publish(&self, now: Instant) {
        let receivers = self.sessions.iter().filter_map(|(id, active)| {
            let receiver = self.roster.receivers().get(id)?;
            Some((id.to_string(), stats::receiver_stats(receiver, active, now)))
        });
        self.published.publish(self.pads.known().cloned().collect(), receivers.collect());
    }

    fn gather_stats(&self) {
        if self.published.stats_read_within(STATS_INTEREST) {
            self.connected().for_each(|(_, session)| session.request_stats());
        }
    }

    /// The connected sessions.
    fn connected(&self) -> impl Iterator<Item = (&ClientId, &Session)> {
        self.roster
            .receivers()
            .iter()
            .filter(|(_, receiver)| receiver.is_connected())
            .filter_map(|(id, _)| Some((id, &self.sessions.get(id)?.session)))
    }

    fn send_data(&self, id: Option<&str>, bytes: &glib::Bytes) {
        for (to, session) in self.connected().filter(|(to, _)| id.is_none_or(|id| id == to.as_str())) {
            if let Err(error) = session.send_data(bytes) {
                gst::warning!(CAT, "send-data to {to}: {error}");
            }
        }
    }
}

fn limits(settings: &Settings, relay_only: bool) -> Limits {
    Limits {
        target_id: settings.target_id.clone(),
        max_receivers: usize::try_from(settings.runtime.max_receivers).unwrap_or(usize::MAX),
        relay_only,
    }
}

/// Posts an element message.
fn post(element: &super::RoomWebRtcSink, structure: gst::Structure) {
    use gst::prelude::*;
    let _ = element.post_message(gst::message::Element::builder(structure).src(element).build());
}
