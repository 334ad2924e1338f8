//! The thread that performs what the roster decides: signaling events, the events of sessions, actions and the time all
//! arrive here, in order, as [`Command`]s. The roster turns them into outputs, and this thread performs the outputs.
//!
//! So sessions have one owner and no lock. The streaming threads only push into the fan-outs; webrtcbin's threads only
//! send commands.

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

/// How often the liveness and the statistics of sessions are looked at, while there are any.
const TICK: Duration = Duration::from_millis(500);
/// How long webrtcbin's statistics are gathered after they were read.
const STATS_INTEREST: Duration = Duration::from_secs(5);
/// The most commands of one turn. The events of sessions go before the start of the next session, but not for ever.
const COMMANDS_PER_TURN: usize = 64;

/// What the conductor is told.
pub(crate) enum Command {
    /// The signaling client reports.
    Signaling(Event),
    /// The signaling client has ended.
    SignalingEnded,
    /// This session with this receiver reports.
    Session(ClientId, SessionId, SessionEvent),
    /// There is a pad whose stream is not known yet.
    PadAdded(StreamKey, glib::WeakRef<gst::GhostPad>),
    /// The stream of a pad is known, or flows again after its end.
    PadReady(StreamInfo),
    /// The pad was released.
    PadGone(StreamKey),
    /// The stream of a pad has ended. The reply comes once nothing of it waits to be sent.
    PadEnded(StreamKey, mpsc::SyncSender<()>),
    /// A receiver waits for a keyframe of this pad.
    Keyframe(StreamKey),
    /// The action signal `request-keyframe`.
    RequestKeyframe,
    /// The action signal `kick`.
    Kick(String),
    /// The action signal `send-data`: to one receiver, or to all.
    SendData(Option<String>, glib::Bytes),
    /// A property that may change while playing has changed.
    Settings(RuntimeSettings),
    /// The property `token` was set.
    Token(String),
    /// Say goodbye and end. The reply comes when that is done.
    Stop(mpsc::SyncSender<()>),
}

/// A session that runs.
pub(crate) struct ActiveSession {
    pub(crate) session: Session,
    /// webrtcbin's statistics, as long as they are of interest.
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
    /// The servers that can't be used and that the user knows of.
    unusable_ice_servers: Vec<String>,
    pads: Pads,
    roster: Roster,
    sessions: BTreeMap<ClientId, ActiveSession>,
    next_tick: Option<Instant>,
    changed: bool,
    /// The signaling client has ended: after a goodbye, or by itself when the server refused it for good.
    signaling_over: bool,
    stopping: Option<mpsc::SyncSender<()>>,
    teardowns: Vec<JoinHandle<()>>,
}

/// What a [`Conductor`] starts with.
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
    /// Runs until [`Command::Stop`] on a thread of its own. A panic there becomes an error of the element.
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

    /// Waits for the teardown of all sessions. There are sessions left only after a panic.
    fn finish(&mut self) {
        self.handle.shutdown();
        let left = std::mem::take(&mut self.sessions);
        self.teardowns.extend(left.values().filter_map(|running| running.session.end()));
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
            Command::Keyframe(key) => {
                gst::debug!(CAT, "a receiver waits for a keyframe of {key}");
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
        }
    }

    fn update_roster(&mut self, now: Instant, input: Input) {
        self.roster.handle(now, input);
        self.perform_outputs();
    }

    fn handle_time(&mut self, now: Instant) {
        self.pads.drain(now, || self.sessions.values().any(|running| running.session.is_queued()));
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

    /// The sessions whose media flows.
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
