//! The element: properties, states, queries. What it does is in [`super::control`].

use super::{
    control::Control,
    message,
    settings::{self, Settings},
    timeline::MAX_HELD,
    uri,
};
use crate::{
    codec::{CODECS, MediaKind},
    log::CAT,
    peer::certificate,
    signaling::{SignalingState, SignalingStatus},
};
use gst::{glib, prelude::*, subclass::prelude::*};
use room_signaling_client::wire::Role;
use std::{
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long PAUSED→READY waits for goodbyes.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// State and settings of a `roomwebrtcsrc`.
#[derive(Default)]
pub struct RoomWebRtcSrc {
    settings: Mutex<Settings>,
    control: Mutex<Option<Control>>,
    playing: AtomicBool,
    shown: Mutex<Shown>,
    stats_read: AtomicBool,
}

/// What read-only properties show.
#[derive(Default)]
struct Shown {
    signaling: SignalingStatus,
    stats: Option<gst::Structure>,
    webrtc: Option<gst::Structure>,
}

#[glib::object_subclass]
impl ObjectSubclass for RoomWebRtcSrc {
    const NAME: &'static str = "GstRoomWebRTCSrc";
    type Type = super::RoomWebRtcSrc;
    type ParentType = gst::Bin;
    type Interfaces = (gst::URIHandler,);
}

impl ObjectImpl for RoomWebRtcSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut specs = settings::properties();
            specs.push(
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("State of the session and counters of each pad, described in docs/elements.md; reading never waits")
                    .read_only()
                    .build(),
            );
            specs
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        // The lock is held until the token is passed on, so that the last one set is the one in use.
        let mut settings = lock(&self.settings);
        if !settings.set(spec.name(), value) {
            gst::error!(CAT, imp = self, "no property {}", spec.name());
        }
        if spec.name() == "token"
            && let Ok(Some(token)) = value.get::<Option<String>>()
            && let Some(control) = &*lock(&self.control)
        {
            control.set_token(token);
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        match spec.name() {
            "signaling-state" => lock(&self.shown).signaling.state.to_value(),
            "assigned-client-id" => lock(&self.shown).signaling.client_id.to_value(),
            "signaling-reason" => lock(&self.shown).signaling.reason.to_value(),
            "stats" => self.stats().to_value(),
            name => lock(&self.settings).get(name).unwrap_or_else(|| spec.default_value().clone()),
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        // A pipeline sends EOS to its sources. This element is one even while it has no pads.
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        element.set_element_flags(gst::ElementFlags::SOURCE);
    }
}

impl GstObjectImpl for RoomWebRtcSrc {}

impl ElementImpl for RoomWebRtcSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Room WebRTC source",
                "Source/Network/WebRTC",
                "Receives the streams of a sender in a room, peer to peer, introduced by room-signaling",
                "The room-signaling project",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            [("video_%u", MediaKind::Video), ("audio_%u", MediaKind::Audio)]
                .into_iter()
                .filter_map(|(name, kind)| {
                    let caps = CODECS.iter().filter(|codec| codec.kind == kind);
                    let mut all = gst::Caps::new_empty();
                    caps.for_each(|codec| all.merge(codec.unit_caps()));
                    gst::PadTemplate::new(name, gst::PadDirection::Src, gst::PadPresence::Sometimes, &all)
                        .ok()
                })
                .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => certificate::warm_up(),
            gst::StateChange::ReadyToPaused => self.start()?,
            gst::StateChange::PlayingToPaused => self.playing.store(false, Ordering::Relaxed),
            gst::StateChange::PausedToReady => self.stop(),
            gst::StateChange::ReadyToNull => certificate::wait_for_warm_up(),
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::ReadyToPaused => {
                if result.is_err() {
                    self.stop();
                    self.clean_up();
                }
                // Live, though the live sources inside come later.
                result.map(|_| gst::StateChangeSuccess::NoPreroll)
            }
            gst::StateChange::PausedToPlaying => {
                self.playing.store(result.is_ok(), Ordering::Relaxed);
                result
            }
            gst::StateChange::PlayingToPaused => result.map(|_| gst::StateChangeSuccess::NoPreroll),
            gst::StateChange::PausedToReady => {
                self.clean_up();
                result
            }
            _ => result,
        }
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Eos && self.end_without_pads(event.seqnum()) {
            return true;
        }
        self.parent_send_event(event)
    }

    fn query(&self, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Latency(query) = query.view_mut() {
            // The latency is that of the jitter buffer. The outputs hold media for a pipeline that is configured with more.
            let latency = lock(&self.settings).latency();
            query.set(true, latency, latency + MAX_HELD);
            return true;
        }
        self.parent_query(query)
    }
}

impl BinImpl for RoomWebRtcSrc {}

impl URIHandlerImpl for RoomWebRtcSrc {
    const URI_TYPE: gst::URIType = gst::URIType::Src;

    fn protocols() -> &'static [&'static str] {
        &uri::PROTOCOLS
    }

    fn uri(&self) -> Option<String> {
        let settings = lock(&self.settings);
        uri::build(&settings.signaling.uri, &settings.signaling.room)
    }

    fn set_uri(&self, uri: &str) -> Result<(), glib::Error> {
        if lock(&self.control).is_some() {
            return Err(glib::Error::new(
                gst::URIError::BadState,
                "the URI can be changed in READY and below only",
            ));
        }
        let parsed = uri::parse(uri).map_err(|words| glib::Error::new(gst::URIError::BadUri, &words))?;
        let mut settings = lock(&self.settings);
        settings.signaling.uri = parsed.signaling_uri;
        settings.signaling.room = parsed.room;
        Ok(())
    }
}

impl RoomWebRtcSrc {
    fn start(&self) -> Result<(), gst::StateChangeError> {
        let settings = lock(&self.settings).clone();
        let token = settings.signaling.token.clone();
        let options = settings.check().and_then(|()| settings.signaling.options(Role::Receiver));
        let control = options.and_then(|options| Control::start(&self.obj(), settings, options));
        match control {
            Ok(control) => {
                let settings = lock(&self.settings);
                // A token that was set meanwhile found nobody to pass it to.
                if let Some(token) =
                    settings.signaling.token.clone().filter(|now| Some(now) != token.as_ref())
                {
                    control.set_token(token);
                }
                *lock(&self.control) = Some(control);
                Ok(())
            }
            Err(words) => {
                gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", words));
                Err(gst::StateChangeError)
            }
        }
    }

    /// The lock is not held while waiting: `set_uri` and the statistics must not wait too.
    fn stop(&self) {
        let control = lock(&self.control).take();
        if let Some(control) = control {
            control.stop(STOP_LIMIT);
            *lock(&self.control) = Some(control);
        }
    }

    /// Handles EOS while there are no pads for it to travel through. False if there are.
    fn end_without_pads(&self, seqnum: gst::Seqnum) -> bool {
        let pipeline = self.pipeline_without_other_sources();
        // The application may be called in here, so the lock is not held.
        let outputs = lock(&self.control).as_ref().map(Control::outputs);
        let ended = outputs.is_some_and(|outputs| outputs.end_without_pads(pipeline.is_some()));
        if let Some(pipeline) = pipeline.filter(|_| ended) {
            // No sink of the pipeline will ever receive data, and none of them can post EOS.
            let message = gst::message::Eos::builder().src(&pipeline).seqnum(seqnum).build();
            // Fails only without a bus, and then the application has given up the pipeline.
            let _ = pipeline.post_message(message);
        }
        ended
    }

    /// The pipeline, if this element is its only source.
    fn pipeline_without_other_sources(&self) -> Option<gst::Pipeline> {
        let mut at = self.obj().clone().upcast::<gst::Element>();
        while let Some(parent) = at.parent() {
            let bin = parent.downcast::<gst::Bin>().ok()?;
            if bin.iterate_sources().into_iter().filter_map(Result::ok).any(|source| source != at) {
                return None;
            }
            at = bin.upcast();
        }
        at.downcast().ok()
    }

    fn clean_up(&self) {
        let control = lock(&self.control).take();
        if let Some(control) = control {
            control.remove_outputs();
        }
        *lock(&self.shown) = Shown::default();
        self.obj().notify("signaling-state");
    }

    fn stats(&self) -> gst::Structure {
        self.stats_read.store(true, Ordering::Relaxed);
        let shown = lock(&self.shown);
        let mut stats = shown
            .stats
            .clone()
            .unwrap_or_else(|| gst::Structure::new_empty("application/x-room-source-stats"));
        if let Some(webrtc) = &shown.webrtc {
            stats.set("webrtc", webrtc);
        }
        stats
    }
}

/// What the control thread and the outputs want of the element.
impl super::RoomWebRtcSrc {
    pub(super) fn is_playing(&self) -> bool {
        self.imp().playing.load(Ordering::Relaxed)
    }

    pub(super) fn eos_on_bye(&self) -> bool {
        lock(&self.imp().settings).eos_on_bye
    }

    /// Shows a new state of signaling and announces it.
    pub(super) fn set_signaling_state(&self, state: SignalingState) {
        let status = {
            let mut shown = lock(&self.imp().shown);
            shown.signaling.set_state(state);
            shown.signaling.clone()
        };
        self.notify("signaling-state");
        self.notify("signaling-reason");
        message::signaling_state(self, &status);
    }

    /// Shows the id that the element has in its room.
    pub(super) fn set_client_id(&self, id: &str) {
        if lock(&self.imp().shown).signaling.set_client_id(id) {
            self.notify("assigned-client-id");
        }
    }

    /// Shows why the element is not in its room.
    pub(super) fn set_signaling_reason(&self, reason: String) {
        lock(&self.imp().shown).signaling.reason = Some(reason);
        self.notify("signaling-reason");
    }

    pub(super) fn set_stats(&self, stats: gst::Structure) {
        lock(&self.imp().shown).stats = Some(stats);
    }

    pub(super) fn set_webrtc_stats(&self, stats: gst::Structure) {
        lock(&self.imp().shown).webrtc = Some(stats);
    }

    /// Whether somebody has read the statistics since this was last called.
    pub(super) fn take_interest_in_stats(&self) -> bool {
        self.imp().stats_read.swap(false, Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
