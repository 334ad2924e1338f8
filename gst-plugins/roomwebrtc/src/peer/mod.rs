//! The media connection to one peer, on which the sessions of both elements are built: a pipeline with a webrtcbin, the
//! exchange of descriptions and candidates, the check of the DTLS fingerprint, liveness, and teardown.
//!
//! Threading: one thread owns a [`Peer`]. webrtcbin's callbacks run on other threads, and each only sends a [`PeerEvent`],
//! which the owner passes to [`Peer::handle`]. An error in this pipeline affects no other peer.

pub(crate) mod certificate;
#[cfg(test)]
pub(crate) mod hostile;
pub(crate) mod ice;
mod liveness;
mod relays;
mod rtcp;
mod webrtcbin;

pub(crate) use ice::{IceConfig, check_url, local_addresses};
pub(crate) use rtcp::ReportBlock;

use crate::{
    log::CAT,
    sdp::{self, Description, Fingerprints},
    sync::lock,
};
use gst::{glib, prelude::*};
use gst_webrtc::{WebRTCPeerConnectionState as Connection, WebRTCSDPType, WebRTCSessionDescription};
use liveness::Liveness;
use room_signaling_client::wire::IceCandidate;
use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// The events of a webrtcbin and its pipeline, in order.
pub(crate) enum PeerEvent {
    /// webrtcbin created the offer or the answer.
    Created(WebRTCSessionDescription),
    /// The local description is set.
    LocalSet,
    /// The remote description is set.
    RemoteSet,
    /// A local candidate: the index of its m-line, and its text.
    Candidate(u32, String),
    /// The peer presented this DTLS certificate (PEM). Precedes the connection.
    Certificate(String),
    /// The state of the connection changed.
    Connection(Connection),
    /// The peer sent receiver reports on local streams.
    Reports(Vec<ReportBlock>),
    /// The latency of the pipeline must be recalculated.
    Latency,
    /// The statistics that [`Peer::request_stats`] requested.
    Stats(gst::Structure),
    /// The connection failed for this reason.
    Failed(String),
}

/// Receives the events of a peer, on any thread. Must not call webrtcbin.
pub(crate) type EventSink = Arc<dyn Fn(PeerEvent) + Send + Sync>;

/// What the owner of a [`Peer`] must do after an event.
#[derive(Debug)]
pub(crate) enum PeerAction {
    /// Nothing.
    None,
    /// Send the description to the peer. Candidates follow.
    Describe(String),
    /// None; but the local description is set, so rtpbin has its session from now on.
    LocalSet,
    /// Send the candidate to the peer.
    Candidate(IceCandidate),
    /// Let media flow: the connection is established, and the certificate matches the description.
    Connected,
    /// The peer sent receiver reports on local streams.
    Reports(Vec<ReportBlock>),
    /// Store the statistics.
    Stats(gst::Structure),
    /// End the session for this reason.
    Over(String),
}

/// Which end makes the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// This end.
    Offers,
    /// The peer.
    Answers,
}

/// Whether the peer's DTLS certificate matches its description.
#[derive(Debug)]
enum Identity {
    /// The peer has presented no certificate yet.
    Unknown,
    Verified,
    Refuted(String),
}

/// A connection to one peer.
pub(crate) struct Peer {
    pipeline: gst::Pipeline,
    webrtcbin: gst::Element,
    events: EventSink,
    side: Side,
    local: Option<Description>,
    remote: Option<Description>,
    identity: Identity,
    liveness: Arc<Liveness>,
}

impl Peer {
    /// Builds the pipeline, which runs on the clock of all sessions with base time 0. The owner adds its streams and then calls
    /// [`Peer::play`]. Fails if webrtcbin (gst-plugins-bad) is not installed.
    pub(crate) fn new(side: Side, ice: &IceConfig, events: EventSink) -> Result<Self, glib::BoolError> {
        let pipeline = gst::Pipeline::new();
        pipeline.use_clock(Some(&crate::time::session_clock()));
        pipeline.set_start_time(gst::ClockTime::NONE);
        pipeline.set_base_time(gst::ClockTime::ZERO);
        contain_messages(&pipeline, &events);
        let webrtcbin = webrtcbin::make(ice)?;
        pipeline.add(&webrtcbin)?;
        let certificates = events.clone();
        certificate::install(&webrtcbin, move |pem| certificates(PeerEvent::Certificate(pem)));
        webrtcbin::watch(&webrtcbin, &events);
        Ok(Self {
            pipeline,
            webrtcbin,
            events,
            side,
            local: None,
            remote: None,
            identity: Identity::Unknown,
            liveness: Arc::default(),
        })
    }

    /// The pipeline, to which the owner adds elements.
    pub(crate) fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// The webrtcbin.
    pub(crate) fn webrtcbin(&self) -> &gst::Element {
        &self.webrtcbin
    }

    /// The rtpbin inside the webrtcbin.
    pub(crate) fn rtpbin(&self) -> Option<gst::Element> {
        self.webrtcbin.downcast_ref::<gst::Bin>()?.by_name("rtpbin")
    }

    /// The only RTP session of the bundle. Exists once a local description is set.
    pub(crate) fn rtp_session(&self) -> Option<glib::Object> {
        self.rtpbin()?.emit_by_name::<Option<glib::Object>>("get-internal-session", &[&0u32])
    }

    /// Starts the pipeline. If this fails, call [`Peer::end`].
    pub(crate) fn play(&self) -> Result<(), glib::BoolError> {
        match self.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(_) => Err(glib::bool_error!("the pipeline of the session does not start")),
        }
    }

    /// Requests an offer from webrtcbin, which arrives as [`PeerAction::Describe`].
    pub(crate) fn make_offer(&self) {
        self.create(WebRTCSDPType::Offer);
    }

    /// Sets the peer's offer as the remote description. The answer arrives as [`PeerAction::Describe`].
    pub(crate) fn accept_offer(&mut self, offer: Description) {
        self.accept(WebRTCSDPType::Offer, offer);
    }

    /// Parses and checks the peer's answer. The error is the reason why it is refused.
    pub(crate) fn read_answer(&self, text: &str) -> Result<Description, String> {
        let offer = self.local.as_ref().ok_or("the answer precedes the offer")?;
        Description::answer(text, offer).map_err(|error| error.to_string())
    }

    /// Sets the peer's answer as the remote description.
    pub(crate) fn accept_answer(&mut self, answer: Description) {
        self.accept(WebRTCSDPType::Answer, answer);
    }

    /// Passes a candidate of the peer to webrtcbin, which stores candidates that precede the descriptions.
    pub(crate) fn add_candidate(&self, candidate: &IceCandidate) {
        if candidate.candidate.is_empty() {
            // The end of candidates (RFC 8838). webrtcbin 1.22 has no use for it.
            return;
        }
        // Both ends number the m-lines as the offer does.
        let offer = if self.side == Side::Offers { &self.local } else { &self.remote };
        let by_mid = || offer.as_ref()?.line_of_mid(candidate.sdp_mid.as_deref()?);
        let m_line = candidate.sdp_m_line_index.or_else(by_mid).unwrap_or(0);
        let lines = offer.as_ref().map_or(0, Description::len);
        if m_line >= lines || !sdp::is_usable_candidate(&candidate.candidate) {
            gst::warning!(
                CAT,
                "ignoring a candidate of the peer for m-line {m_line} that libnice cannot use"
            );
            return;
        }
        self.webrtcbin.emit_by_name::<()>("add-ice-candidate", &[&m_line, &candidate.candidate]);
    }

    /// Handles an event.
    pub(crate) fn handle(&mut self, event: PeerEvent) -> PeerAction {
        match event {
            PeerEvent::Created(description) => self.describe(&description),
            PeerEvent::LocalSet => {
                self.watch_rtcp();
                PeerAction::LocalSet
            }
            PeerEvent::RemoteSet => {
                if self.side == Side::Answers {
                    self.create(WebRTCSDPType::Answer);
                }
                PeerAction::None
            }
            // An empty one is the end of candidates, at which aiortc raises an exception.
            PeerEvent::Candidate(_, line) if line.is_empty() => PeerAction::None,
            PeerEvent::Candidate(m_line, candidate) => PeerAction::Candidate(IceCandidate {
                candidate,
                sdp_mid: self.local.as_ref().and_then(|local| local.mid(m_line)).map(str::to_owned),
                sdp_m_line_index: Some(m_line),
            }),
            PeerEvent::Certificate(pem) => {
                self.identify(&pem);
                match &self.identity {
                    Identity::Refuted(reason) => PeerAction::Over(reason.clone()),
                    _ => PeerAction::None,
                }
            }
            PeerEvent::Connection(state) => self.connection_changed(state),
            PeerEvent::Latency => {
                // Without a latency rtpbin knows no running times, and its sender reports have no time.
                let _ = self.pipeline.recalculate_latency();
                PeerAction::None
            }
            PeerEvent::Reports(reports) => PeerAction::Reports(reports),
            PeerEvent::Stats(stats) => PeerAction::Stats(stats),
            PeerEvent::Failed(reason) => PeerAction::Over(reason),
        }
    }

    /// The age of the peer's last RTCP packet, and the mean interval of its packets. `None` before the connection.
    pub(crate) fn silence(&self, now: Instant) -> Option<(Duration, Duration)> {
        self.liveness.silence(now)
    }

    /// Requests statistics from webrtcbin, which arrive as [`PeerAction::Stats`].
    pub(crate) fn request_stats(&self) {
        let events = self.events.clone();
        webrtcbin::request_stats(&self.webrtcbin, move |stats| events(PeerEvent::Stats(stats)));
    }

    /// Whether the peer's DTLS certificate matches its description.
    pub(crate) fn is_verified(&self) -> bool {
        matches!(self.identity, Identity::Verified)
    }

    /// Ends the connection, then calls `done`. Because webrtcbin needs time to stop, a thread does this in the background, and
    /// its handle is returned. If no thread can be created, this function itself waits.
    pub(crate) fn end(&self, done: impl FnOnce() + Send + 'static) -> Option<thread::JoinHandle<()>> {
        self.end_on(thread::Builder::new().name("room-session-end".into()), done)
    }

    fn end_on<F>(&self, thread: thread::Builder, done: F) -> Option<thread::JoinHandle<()>>
    where
        F: FnOnce() + Send + 'static,
    {
        // A pipeline that is dropped before it is in NULL would crash, so a failure to spawn must not drop it.
        let work = Arc::new(Mutex::new(Some((self.pipeline.clone(), self.webrtcbin.clone(), done))));
        let run = |work: &Mutex<Option<(gst::Pipeline, gst::Element, F)>>| {
            let work = lock(work).take();
            if let Some((pipeline, webrtcbin, done)) = work {
                // The change to NULL never fails.
                let _ = pipeline.set_state(gst::State::Null);
                relays::release(&webrtcbin);
                drop((pipeline, webrtcbin));
                done();
            }
        };
        let theirs = work.clone();
        match thread.spawn(move || run(&theirs)) {
            Ok(thread) => Some(thread),
            Err(error) => {
                gst::warning!(
                    CAT,
                    "cannot create a thread to end a session ({error}); it ends on this thread"
                );
                run(&work);
                None
            }
        }
    }

    fn create(&self, kind: WebRTCSDPType) {
        let events = self.events.clone();
        webrtcbin::create_description(&self.webrtcbin, kind, move |created| {
            events(match created {
                Ok(description) => PeerEvent::Created(description),
                Err(error) => PeerEvent::Failed(error),
            });
        });
    }

    fn accept(&mut self, kind: WebRTCSDPType, description: Description) {
        let remote = WebRTCSessionDescription::new(kind, description.to_message());
        // DTLS may begin immediately, and the certificate is compared with this description.
        self.remote = Some(description);
        let events = self.events.clone();
        webrtcbin::set_remote(&self.webrtcbin, &remote, move |set| {
            events(match set {
                Ok(()) => PeerEvent::RemoteSet,
                Err(error) => PeerEvent::Failed(error),
            });
        });
    }

    fn describe(&mut self, description: &WebRTCSessionDescription) -> PeerAction {
        let mut local = Description::local(description.sdp());
        if let Some(fingerprint) = certificate::fingerprint() {
            local.set_fingerprint(fingerprint);
        }
        if self.side == Side::Offers {
            local.complete_formats();
        }
        let text = match local.to_text() {
            Ok(text) => text,
            Err(error) => return PeerAction::Over(error),
        };
        gst::trace!(CAT, "the local description:\n{text}");
        self.local = Some(local);
        let events = self.events.clone();
        webrtcbin::set_local(&self.webrtcbin, description, move |set| {
            events(match set {
                Ok(()) => PeerEvent::LocalSet,
                Err(error) => PeerEvent::Failed(error),
            });
        });
        PeerAction::Describe(text)
    }

    fn identify(&mut self, pem: &str) {
        let verified = match self.remote.as_ref().map(Description::fingerprints).as_ref() {
            Some(fingerprints) => Fingerprints::verify(fingerprints, pem).map_err(|error| error.to_string()),
            None => Err("DTLS began before the peer's session description arrived".to_owned()),
        };
        self.identity = match verified {
            Ok(()) => Identity::Verified,
            Err(reason) => Identity::Refuted(reason),
        };
    }

    fn connection_changed(&mut self, state: Connection) -> PeerAction {
        match (state, &self.identity) {
            (Connection::Connected, Identity::Verified) => {
                self.liveness.heard(Instant::now());
                PeerAction::Connected
            }
            (Connection::Connected, Identity::Refuted(reason)) => PeerAction::Over(reason.clone()),
            (Connection::Connected, Identity::Unknown) => {
                PeerAction::Over("DTLS presented no certificate to compare with the description".to_owned())
            }
            (Connection::Failed, _) => PeerAction::Over("connection failed".to_owned()),
            (Connection::Closed, _) => PeerAction::Over("connection closed".to_owned()),
            // `disconnected` may pass; if not, silence shows it.
            _ => PeerAction::None,
        }
    }

    fn watch_rtcp(&self) {
        let Some(session) = self.rtp_session() else { return };
        let (liveness, events) = (self.liveness.clone(), self.events.clone());
        session.connect("on-receiving-rtcp", false, move |values| {
            liveness.heard(Instant::now());
            let packet = values.get(1).and_then(|value| value.get::<gst::Buffer>().ok());
            let reports = packet.and_then(|packet| Some(rtcp::report_blocks(&packet.map_readable().ok()?)));
            if let Some(reports) = reports.filter(|reports| !reports.is_empty()) {
                events(PeerEvent::Reports(reports));
            }
            None
        });
    }
}

/// Hides the messages of a session's pipeline from the application, because an error message, for instance of a failed DTLS
/// handshake, would end all sessions. The handler runs on the thread that posts.
fn contain_messages(pipeline: &gst::Pipeline, events: &EventSink) {
    let Some(bus) = pipeline.bus() else { return };
    let events = events.clone();
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => {
                let source = error.src().map(|source| source.name().to_string()).unwrap_or_default();
                gst::debug!(CAT, "{source}: {} ({})", error.error(), error.debug().unwrap_or_default());
                events(PeerEvent::Failed(format!("{source}: {}", error.error())));
            }
            gst::MessageView::Latency(_) => events(PeerEvent::Latency),
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}

#[cfg(test)]
mod tests;
