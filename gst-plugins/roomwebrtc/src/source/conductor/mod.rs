//! The conductor: the one thread that owns the media session. It handles signaling events, session events, pad events and
//! time in order, so that the session needs no lock.
//!
//! - [`signaling`]: events of the room and of the connection to the server.
//! - [`session`]: starting, driving and ending the session with a sender.
//!
//! [`super::senders`] decides which sender to receive.
//!
//! Architecture invariant: the conductor waits neither for a peer nor for the network nor for downstream. It holds no lock
//! while it calls webrtcbin or the application.

mod session;
mod signaling;

use super::{
    RoomWebRtcSrc,
    output::{Output, OutputContext, OutputEvent},
    outputs::Outputs,
    senders::Senders,
    session::{Session, SessionEvent},
    settings::Settings,
    signaling_connection::{SignalingConnection, SignalingEvent},
};
use crate::{guard, log::CAT, signaling::SignalingState, time::SessionClock};
use gst::{glib, prelude::*};
use room_signaling_client::{
    Options,
    wire::{ErrorCode, IceServer},
};
use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// The interval at which the session handles time.
const TICK: Duration = Duration::from_millis(250);
/// The longest time from [`Command::Stop`] to the end of the conductor, within which `bye` is sent and sessions are
/// torn down.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// The input of the conductor.
pub(super) enum Command {
    /// An event of a signaling client.
    Signaling(SignalingEvent),
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
    /// Panic, for the test of the guard.
    #[cfg(test)]
    Panic,
}

/// The handle by which the element reaches the conductor.
pub(super) struct ConductorHandle {
    commands: mpsc::Sender<Command>,
    ended: mpsc::Receiver<()>,
    outputs: Arc<Outputs>,
}

impl ConductorHandle {
    /// Starts the signaling client and the thread. The error names the property to change.
    pub(super) fn start(
        element: &RoomWebRtcSrc,
        settings: Settings,
        options: Options,
    ) -> Result<Self, String> {
        let wanted = settings.wanted_sender()?;
        let (commands, inbox) = mpsc::channel();
        // Sending fails only if the conductor has ended.
        let sender = commands.clone();
        let sink = Arc::new(move |event| sender.send(Command::Signaling(event)).is_ok());
        let signaling = SignalingConnection::start(options, sink).map_err(|error| error.to_string())?;
        let sender = commands.clone();
        let outputs = Arc::new(Outputs::new(OutputContext {
            element: element.downgrade(),
            group: gst::GroupId::next(),
            latency: settings.latency(),
            events: Arc::new(move |event| {
                let _ = sender.send(Command::Output(event));
            }),
            clock: Arc::new(SessionClock::default()),
        }));
        let (alive, ended) = mpsc::channel::<()>();
        let mut conductor = Conductor {
            element: element.downgrade(),
            settings,
            commands: commands.clone(),
            signaling,
            state: SignalingState::Idle,
            ice_servers: Vec::new(),
            unusable_ice_servers: Vec::new(),
            outputs: outputs.clone(),
            pads_announced: false,
            senders: Senders::new(wanted),
            session: None,
            session_number: 0,
            teardowns: 0,
            next_tick: None,
            bye_deadline: None,
            stopped: None,
        };
        let run = move || {
            let owner = conductor.element.clone();
            guard::run(&owner, "the conductor", || conductor.run(&inbox));
            // A session is left only after a panic. Its pipeline must not be dropped while it plays.
            conductor.end_session("failed");
            conductor.signaling.shutdown();
            drop(alive);
        };
        std::thread::Builder::new()
            .name("room-source".into())
            .spawn(run)
            .map_err(|error| format!("the thread of the element can't be started: {error}"))?;
        Ok(Self { commands, ended, outputs })
    }

    /// Passes a new token to the signaling client.
    pub(super) fn set_token(&self, token: String) {
        // Fails only while the element is stopping.
        let _ = self.commands.send(Command::Token(token));
    }

    /// Leaves the room and ends the session. Waits at most `limit`; the rest happens in the background.
    pub(super) fn stop(&self, limit: Duration) {
        // Both fail if the conductor has ended already.
        let _ = self.commands.send(Command::Stop);
        let _ = self.ended.recv_timeout(limit);
    }

    /// Makes the conductor panic.
    #[cfg(test)]
    pub(super) fn panic(&self) {
        self.commands.send(Command::Panic).expect("a running conductor");
    }

    /// The pads.
    pub(super) fn outputs(&self) -> Arc<Outputs> {
        self.outputs.clone()
    }

    /// Removes all pads. The element must be in READY.
    pub(super) fn remove_pads(&self) {
        self.outputs.close();
    }
}

struct Conductor {
    element: glib::WeakRef<RoomWebRtcSrc>,
    settings: Settings,
    commands: mpsc::Sender<Command>,
    signaling: SignalingConnection,
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
    /// The number of sessions that are being torn down.
    teardowns: usize,
    /// When the session handles time again.
    next_tick: Option<Instant>,
    /// When the `bye` of the sender becomes the end of the stream (`eos-on-bye`).
    bye_deadline: Option<Instant>,
    /// When the element was stopped.
    stopped: Option<Instant>,
}

impl Conductor {
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
        self.stopped.is_some_and(|since| {
            (self.signaling.is_closed() && self.teardowns == 0) || since.elapsed() > STOP_LIMIT
        })
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = self.stopped.map(|since| since + STOP_LIMIT);
        [self.next_tick, self.bye_deadline, self.senders.deadline(), self.signaling.deadline(), limit]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Signaling(SignalingEvent::Received(generation, event))
                if self.signaling.is_current(generation) =>
            {
                self.on_event(event);
            }
            Command::Session(number, event) if number == self.session_number => self.on_session_event(event),
            Command::Signaling(SignalingEvent::Ended(generation)) => {
                self.signaling.ended(generation, Instant::now());
            }
            Command::SessionEnded => self.teardowns = self.teardowns.saturating_sub(1),
            Command::Output(OutputEvent::KeyframeNeeded(key)) => {
                if let Some(session) = &self.session {
                    session.request_keyframe(key);
                }
            }
            Command::Output(OutputEvent::Ended(name)) => {
                if let Some(output) = self.outputs.remove_ended(name) {
                    remove_in_background(output);
                }
            }
            Command::Output(OutputEvent::EndOfStream) => self.finish("end of stream"),
            Command::Token(token) => self.signaling.set_token(&token),
            Command::Stop => {
                self.finish("closed");
                self.stopped = Some(Instant::now());
            }
            #[cfg(test)]
            Command::Panic => panic!("a test asked for this"),
            // The event is from a signaling client or a session that has been replaced.
            Command::Signaling(_) | Command::Session(..) => {}
        }
    }

    fn handle_time(&mut self, now: Instant) {
        if self.next_tick.is_some_and(|at| at <= now) {
            self.next_tick = self.session.is_some().then(|| now + TICK);
            if let Some(action) = self.session.as_mut().map(|session| session.handle_time(now)) {
                self.perform(action);
            }
            self.announce_pads(now);
            self.update_stats();
        }
        if self.bye_deadline.is_some_and(|at| at <= now) {
            self.bye_deadline = None;
            self.end_streams();
        }
        if self.senders.handle_time(now) && self.session.is_none() && self.stopped.is_none() {
            self.request_offers(now);
        }
        if let Err(error) = self.signaling.handle_time(now) {
            self.fail(None, &error.to_string());
        }
    }

    /// Ends the streams of all pads and leaves the room.
    fn end_streams(&mut self) {
        if self.outputs.send_eos() {
            self.finish("end of stream");
        } else {
            self.look_for_another(Instant::now());
        }
    }

    fn finish(&mut self, reason: &str) {
        self.end_session(reason);
        self.senders.stop();
        (self.bye_deadline, self.next_tick) = (None, None);
        self.signaling.shutdown();
        self.set_state(if self.state == SignalingState::Failed {
            self.state
        } else {
            SignalingState::Closed
        });
    }

    fn fail(&mut self, code: Option<ErrorCode>, error: &str) {
        self.set_reason(error.to_owned());
        self.set_state(SignalingState::Failed);
        self.finish("failed");
        let Some(element) = self.element.upgrade() else { return };
        if let Some(ErrorCode::Unauthorized | ErrorCode::Forbidden) = code {
            gst::element_error!(element, gst::ResourceError::NotAuthorized, ("{}", error));
        } else {
            gst::element_error!(element, gst::ResourceError::OpenRead, ("{}", error));
        }
    }

    fn eos_on_bye(&self) -> bool {
        self.element.upgrade().is_some_and(|element| element.eos_on_bye())
    }
}

/// Removes a pad on a thread of its own, because removing waits until downstream has handled EOS.
fn remove_in_background(output: Arc<Output>) {
    let work = move || output.remove();
    if let Err(error) = std::thread::Builder::new().name("room-pad-end".into()).spawn(work) {
        gst::error!(CAT, "a pad whose stream has ended remains, because no thread can be started: {error}");
    }
}
