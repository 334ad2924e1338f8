//! The control thread. It handles signaling events, session events, and time in order, so that the session has one owner
//! and needs no lock.
//!
//! Architecture invariant: the control thread waits neither for a peer nor for the network nor for downstream. It holds no
//! lock while it calls webrtcbin or the application.

use super::{
    RoomWebRtcSrc,
    link::{self, Link, LinkEvent},
    message,
    output::{Output, OutputContext, OutputEvent},
    outputs::Outputs,
    senders::{GOODBYE_GRACE, Senders},
    session::{Action, Session, SessionEvent, SessionEvents},
    settings::Settings,
    stats,
};
use crate::{
    guard,
    log::CAT,
    signaling::{SignalingState, warn_unreachable},
    time::SessionClock,
};
use gst::{glib, prelude::*};
use room_signaling_client::{
    Event, Failure, GoneReason, Media, Options, State,
    protocol::{ClientId, SessionId},
    wire::{Body, ErrorCode, IceServer, Signal},
};
use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// The interval at which a session handles time.
const TICK: Duration = Duration::from_millis(250);
/// The longest time for goodbyes and teardown after the element has stopped waiting for them.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The input of the control thread.
pub(super) enum Command {
    /// An event of a signaling client.
    Link(LinkEvent),
    /// An event of the session with this number.
    Session(u64, SessionEvent),
    /// A session has been torn down.
    SessionEnded,
    /// An event of a pad.
    Output(OutputEvent),
    /// The property `token` was set.
    Token(String),
    /// Leave the room and end.
    Stop,
}

/// The handle by which the element reaches the control thread.
pub(super) struct Control {
    commands: mpsc::Sender<Command>,
    ended: mpsc::Receiver<()>,
    outputs: Arc<Outputs>,
}

impl Control {
    /// Starts the signaling client and the thread. The error names the property to change.
    pub(super) fn start(
        element: &RoomWebRtcSrc,
        settings: Settings,
        options: Options,
    ) -> Result<Self, String> {
        let wanted = settings.wanted_sender()?;
        let (commands, inbox) = mpsc::channel();
        // Sending fails only when the thread has ended, and then nothing is left to do.
        let sender = commands.clone();
        let link_events = Arc::new(move |event| sender.send(Command::Link(event)).is_ok());
        let link = Link::start(options, link_events).map_err(|error| error.to_string())?;
        let sender = commands.clone();
        let outputs = Arc::new(Outputs::new(OutputContext {
            element: element.downgrade(),
            group: gst::GroupId::next(),
            latency: settings.latency(),
            events: Arc::new(move |event| drop(sender.send(Command::Output(event)))),
            clock: Arc::new(SessionClock::default()),
        }));
        let (alive, ended) = mpsc::channel::<()>();
        let mut controller = Controller {
            element: element.downgrade(),
            settings,
            commands: commands.clone(),
            link,
            state: SignalingState::Idle,
            ice_servers: Vec::new(),
            unusable_ice_servers: Vec::new(),
            outputs: outputs.clone(),
            pads_announced: false,
            senders: Senders::new(wanted),
            session: None,
            session_number: 0,
            teardowns: 0,
            tick: None,
            goodbye: None,
            stopped: None,
        };
        let run = move || {
            let owner = controller.element.clone();
            guard::run(&owner, "the control thread", || controller.run(&inbox));
            // Only after a panic is there a session left, and its pipeline must not be dropped while it plays.
            controller.end_session("failed");
            controller.link.shutdown();
            drop(alive);
        };
        std::thread::Builder::new()
            .name("room-source".into())
            .spawn(run)
            .map_err(|error| format!("no thread can be made: {error}"))?;
        Ok(Self { commands, ended, outputs })
    }

    /// Passes a new token on to the signaling client.
    pub(super) fn set_token(&self, token: String) {
        // Fails only while the element stops.
        let _ = self.commands.send(Command::Token(token));
    }

    /// Leaves the room and ends the session. Waits for that no longer than `limit`; the rest happens in the background.
    pub(super) fn stop(&self, limit: Duration) {
        // Both fail if the thread has ended already.
        let _ = self.commands.send(Command::Stop);
        let _ = self.ended.recv_timeout(limit);
    }

    /// The pads.
    pub(super) fn outputs(&self) -> Arc<Outputs> {
        self.outputs.clone()
    }

    /// Removes all pads. For an element in READY.
    pub(super) fn remove_outputs(&self) {
        self.outputs.close();
    }
}

struct Controller {
    element: glib::WeakRef<RoomWebRtcSrc>,
    settings: Settings,
    commands: mpsc::Sender<Command>,
    link: Link,
    state: SignalingState,
    ice_servers: Vec<IceServer>,
    /// The warnings about servers that can't be used.
    unusable_ice_servers: Vec<String>,
    outputs: Arc<Outputs>,
    pads_announced: bool,
    senders: Senders,
    session: Option<Session>,
    /// The number of the current session. Events of earlier ones are ignored.
    session_number: u64,
    /// How many sessions are being torn down.
    teardowns: usize,
    /// When the session handles time again.
    tick: Option<Instant>,
    /// When the sender's `bye` becomes the end of the stream.
    goodbye: Option<Instant>,
    /// When the element was stopped.
    stopped: Option<Instant>,
}

impl Controller {
    fn run(&mut self, inbox: &mpsc::Receiver<Command>) {
        while !self.is_done() {
            let command = match self.deadline() {
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => inbox.recv().map_err(mpsc::RecvTimeoutError::from),
            };
            if let Ok(command) = command {
                self.handle(command);
            }
            self.handle_time(Instant::now());
        }
    }

    fn is_done(&self) -> bool {
        self.stopped
            .is_some_and(|since| (self.link.is_over() && self.teardowns == 0) || since.elapsed() > STOP_LIMIT)
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = self.stopped.map(|since| since + STOP_LIMIT);
        [self.tick, self.goodbye, self.senders.deadline(), self.link.deadline(), limit]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Link(LinkEvent::Signaling(generation, event)) if self.link.is_current(generation) => {
                self.on_event(event);
            }
            Command::Session(number, event) if number == self.session_number => self.on_session_event(event),
            Command::Link(LinkEvent::Ended(generation)) => self.link.ended(generation, Instant::now()),
            Command::SessionEnded => self.teardowns = self.teardowns.saturating_sub(1),
            Command::Output(OutputEvent::KeyframeNeeded(key)) => {
                if let Some(session) = &self.session {
                    session.ask_for_keyframe(key);
                }
            }
            Command::Output(OutputEvent::Ended(name)) => {
                if let Some(output) = self.outputs.take_ended(name) {
                    remove_aside(output);
                }
            }
            Command::Output(OutputEvent::EndOfStream) => self.finish("end of stream"),
            Command::Token(token) => self.link.set_token(&token),
            Command::Stop => {
                self.finish("closed");
                self.stopped = Some(Instant::now());
            }
            // The client or the session has been replaced.
            Command::Link(_) | Command::Session(..) => {}
        }
    }

    fn handle_time(&mut self, now: Instant) {
        if self.tick.is_some_and(|at| at <= now) {
            self.tick = self.session.is_some().then(|| now + TICK);
            if let Some(action) = self.session.as_mut().map(|session| session.handle_time(now)) {
                self.apply(action);
            }
            self.announce_pads(now);
            self.update_stats();
        }
        if self.goodbye.is_some_and(|at| at <= now) {
            self.goodbye = None;
            self.end_streams();
        }
        if self.senders.handle_time(now) && self.session.is_none() && self.stopped.is_none() {
            self.request_offers(now);
        }
        if let Err(error) = self.link.handle_time(now) {
            self.fail(None, &error.to_string());
        }
    }

    fn on_event(&mut self, event: Event) {
        if let Some((id, here)) = link::presence(&event) {
            if here {
                self.senders.joined(id);
            } else {
                self.senders.left(id);
            }
        }
        match event {
            Event::State(state) => self.on_state(state),
            Event::Joined { client_id, ice_servers } => {
                if let Some(element) = self.element.upgrade() {
                    element.set_client_id(client_id.as_str());
                }
                self.link.keep_id(client_id);
                self.ice_servers = ice_servers;
                self.warn_of_ice_servers();
            }
            Event::PeerGone(id, reason) => self.on_gone(&id, reason),
            Event::Signal(Signal { body, session_id, from: Some(from), .. }) => {
                self.on_signal(from, session_id, body);
            }
            Event::Refused { code, message, request, .. } => {
                gst::info!(CAT, "the server refused {}: {code:?}, {message}", request.unwrap_or_default());
            }
            Event::Disconnected(reason) => self.on_reason(reason),
            Event::Unreachable(reason) => {
                // First, because an application reads the property when it gets the warning.
                self.on_reason(reason.clone());
                if let Some(element) = self.element.upgrade() {
                    warn_unreachable(&element, self.settings.signaling.server(), &reason);
                }
            }
            Event::Failed(Failure { code, message }) => self.fail(code, &message),
            Event::PeerReady(_) | Event::PeerChanged(_) | Event::Signal(_) => {}
        }
    }

    fn on_reason(&self, reason: String) {
        if let Some(element) = self.element.upgrade() {
            element.set_signaling_reason(reason);
        }
    }

    fn on_state(&mut self, state: State) {
        let state = match SignalingState::from(state) {
            // The element was in the room, and left it only to get another offer.
            SignalingState::Connecting if self.state != SignalingState::Idle => SignalingState::Reconnecting,
            SignalingState::Closed if self.state == SignalingState::Failed => return,
            state => state,
        };
        self.set_state(state);
    }

    fn set_state(&mut self, state: SignalingState) {
        if self.state != state {
            self.state = state;
            if let Some(element) = self.element.upgrade() {
                element.set_signaling_state(state);
            }
        }
    }

    /// Posts a warning for each STUN or TURN server that can't be used, once.
    fn warn_of_ice_servers(&mut self) {
        let unusable = self.settings.signaling.ice(&self.ice_servers).unusable_servers();
        if let Some(element) = self.element.upgrade() {
            for sentence in unusable.iter().filter(|sentence| !self.unusable_ice_servers.contains(sentence)) {
                gst::element_warning!(element, gst::ResourceError::Settings, ("{}", sentence));
            }
        }
        self.unusable_ice_servers = unusable;
    }

    fn on_gone(&mut self, id: &ClientId, reason: GoneReason) {
        let ours = self.is_session_of(id);
        if ours {
            self.end_session(match reason {
                GoneReason::Left => "left",
                GoneReason::Replaced => "replaced",
                GoneReason::Absent | GoneReason::Restart => "absent",
            });
        }
        if ours && reason == GoneReason::Left && self.eos_on_bye() {
            self.end_streams();
        } else if reason != GoneReason::Replaced {
            // A sender that was replaced by a new process offers on its own.
            self.look_for_another(Instant::now());
        }
    }

    fn on_signal(&mut self, from: ClientId, id: Option<SessionId>, body: Body) {
        match body {
            Body::Offer { sdp } => self.on_offer(from, id, &sdp),
            _ if !self.is_session_of(&from) => {}
            Body::Candidate { candidate } => {
                if let Some(session) = self.session.as_ref().filter(|session| session.is_named(id.as_ref())) {
                    session.add_candidate(&candidate);
                }
            }
            Body::Bye => {
                if self.session.as_ref().is_some_and(|session| session.is_named(id.as_ref())) {
                    self.end_session("bye");
                    self.link.media(&from, id.as_ref(), Media::Ended);
                    let now = Instant::now();
                    self.goodbye = self.eos_on_bye().then(|| now + GOODBYE_GRACE);
                    self.senders.said_bye(from, now);
                }
            }
            Body::Answer { .. } => {
                gst::debug!(CAT, "ignoring an answer of {from}, because nothing was offered");
            }
        }
    }

    fn on_offer(&mut self, from: ClientId, id: Option<SessionId>, sdp: &str) {
        // The server relays messages between any two members. A receiver must not show its own video to the others.
        if !self.senders.is_present(&from) {
            gst::warning!(CAT, "ignoring an offer of {from}, which is no sender in this room");
            return;
        }
        let current = self.session.as_ref().map(|session| &session.sender);
        if self.stopped.is_some() || !self.senders.accept(&from, current) {
            gst::debug!(CAT, "declining an offer of {from}");
            self.link.say(&from, id.as_ref(), Body::Bye);
            self.link.media(&from, id.as_ref(), Media::Ended);
            return;
        }
        self.end_session("replaced");
        self.goodbye = None;
        self.session_number += 1;
        let (number, commands) = (self.session_number, self.commands.clone());
        // Sending fails when the thread has ended; then the event has no use any more.
        let events: SessionEvents =
            Arc::new(move |event| drop(commands.send(Command::Session(number, event))));
        let ice = self.settings.signaling.ice(&self.ice_servers);
        match Session::start((from.clone(), id.clone()), sdp, &ice, &self.settings, events) {
            Ok(session) => {
                gst::info!(CAT, "answering {from}");
                self.link.media(&from, id.as_ref(), Media::Started);
                self.session = Some(session);
                self.tick = Some(Instant::now() + TICK);
            }
            Err(words) => {
                if let Some(element) = self.element.upgrade() {
                    let words = format!("the offer of {from} can't be answered: {words}");
                    gst::element_warning!(element, gst::StreamError::Failed, ("{}", words));
                }
                self.link.say(&from, id.as_ref(), Body::Bye);
                self.link.media(&from, id.as_ref(), Media::Ended);
            }
        }
    }

    fn on_session_event(&mut self, event: SessionEvent) {
        if let Some(action) = self.session.as_mut().map(|session| session.handle(event)) {
            self.apply(action);
        }
    }

    fn apply(&mut self, action: Action) {
        let Some(session) = &mut self.session else { return };
        match action {
            Action::None => {}
            Action::Send(body) => self.link.say(&session.sender, session.id.as_ref(), body),
            Action::Connected => {
                self.senders.connected();
                self.link.media(&session.sender, session.id.as_ref(), Media::Connected);
                if let Some(element) = self.element.upgrade() {
                    message::sender_added(&element, &session.sender);
                }
            }
            Action::NeedOutput(key, caps) => match self.outputs.get_or_add(key, &caps) {
                Ok(output) => {
                    session.attach(&output);
                    self.announce_pads(Instant::now());
                }
                Err(error) => gst::warning!(CAT, "no pad for {}: {error}", key.pad_name()),
            },
            Action::Stats(stats) => {
                if let Some(element) = self.element.upgrade() {
                    element.set_webrtc_stats(stats);
                }
            }
            Action::Over(words) => self.session_failed(&words),
        }
    }

    fn session_failed(&mut self, words: &str) {
        let Some(session) = &self.session else { return };
        let (peer, id) = (session.sender.clone(), session.id.clone());
        gst::warning!(CAT, "the session with {peer} ends: {words}");
        self.link.say(&peer, id.as_ref(), Body::Bye);
        self.end_session(words);
        self.link.media(&peer, id.as_ref(), Media::Ended);
        self.senders.failed(&peer, Instant::now());
    }

    /// Ends the session. Its pads remain.
    fn end_session(&mut self, reason: &str) {
        let Some(session) = self.session.take() else { return };
        let commands = self.commands.clone();
        self.teardowns += 1;
        session.end(move || drop(commands.send(Command::SessionEnded)));
        gst::info!(CAT, "the session with {} is over: {reason}", session.sender);
        if let Some(element) = self.element.upgrade().filter(|_| session.is_connected()) {
            message::sender_removed(&element, &session.sender, reason);
        }
        // Events of the session that are still under way must not count for the next one.
        self.session_number += 1;
        self.update_stats();
    }

    fn look_for_another(&mut self, now: Instant) {
        if self.session.is_none() && self.stopped.is_none() {
            self.senders.look_for_another(now);
        }
    }

    fn request_offers(&mut self, now: Instant) {
        if self.state == SignalingState::Joined {
            gst::info!(CAT, "leaving the room and returning, to get another offer");
            self.senders.returns();
            self.link.leave_and_come_back(now);
        } else {
            self.senders.retry_later(now);
        }
    }

    /// Ends the stream on all pads, and leaves the room.
    fn end_streams(&mut self) {
        if self.outputs.end() {
            self.finish("end of stream");
        } else {
            self.look_for_another(Instant::now());
        }
    }

    fn finish(&mut self, reason: &str) {
        self.end_session(reason);
        self.senders.stop();
        (self.goodbye, self.tick) = (None, None);
        self.link.shutdown();
        self.set_state(if self.state == SignalingState::Failed {
            self.state
        } else {
            SignalingState::Closed
        });
    }

    fn fail(&mut self, code: Option<ErrorCode>, words: &str) {
        self.on_reason(words.to_owned());
        self.set_state(SignalingState::Failed);
        self.finish("failed");
        let Some(element) = self.element.upgrade() else { return };
        if let Some(ErrorCode::Unauthorized | ErrorCode::Forbidden) = code {
            gst::element_error!(element, gst::ResourceError::NotAuthorized, ("{}", words));
        } else {
            gst::element_error!(element, gst::ResourceError::OpenRead, ("{}", words));
        }
    }

    fn announce_pads(&mut self, now: Instant) {
        if !self.pads_announced
            && self.session.as_ref().is_some_and(|session| session.is_complete(now))
            && let Some(element) = self.element.upgrade()
        {
            self.pads_announced = true;
            element.no_more_pads();
        }
    }

    fn update_stats(&self) {
        let Some(element) = self.element.upgrade() else { return };
        element.set_stats(stats::build(self.state, self.session.as_ref(), &self.outputs));
        if let Some(session) = self.session.as_ref().filter(|_| element.take_interest_in_stats()) {
            session.request_stats();
        }
    }

    fn is_session_of(&self, id: &ClientId) -> bool {
        self.session.as_ref().is_some_and(|session| session.sender == *id)
    }

    fn eos_on_bye(&self) -> bool {
        self.element.upgrade().is_some_and(|element| element.eos_on_bye())
    }
}

/// Removes a pad on a thread of its own, because that waits until downstream has handled the EOS.
fn remove_aside(output: Arc<Output>) {
    let work = move || output.remove();
    if let Err(error) = std::thread::Builder::new().name("room-pad-end".into()).spawn(work) {
        gst::error!(CAT, "a pad whose stream has ended remains, because no thread can be made: {error}");
    }
}
