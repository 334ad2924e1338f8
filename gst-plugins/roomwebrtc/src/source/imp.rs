//! The implementation of `roomwebrtcsrc`: properties, state changes, queries, EOS. The conductor ([`super::conductor`])
//! does the work.

use super::{
    conductor::ConductorHandle,
    message,
    published::{self, PublishedState},
    settings::{self, Settings},
    timeline::MAX_HELD,
    uri,
};
use crate::{
    codec::{CODECS, MediaKind},
    log::CAT,
    peer::certificate,
    signaling::SignalingState,
    sync::lock,
};
use gst::{glib, prelude::*, subclass::prelude::*};
use room_signaling_client::wire::Role;
use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The longest time that PAUSED→READY waits for `bye` to be sent.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// The state and the settings of a `roomwebrtcsrc`.
#[derive(Default)]
pub struct RoomWebRtcSrc {
    settings: Mutex<Settings>,
    conductor: Mutex<Option<ConductorHandle>>,
    playing: AtomicBool,
    published: PublishedState,
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
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> =
            LazyLock::new(|| settings::properties().into_iter().chain(published::properties()).collect());
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        // The lock is held until the token is passed on, so that the last token that was set is the one in use.
        let mut settings = lock(&self.settings);
        if !settings.set(spec.name(), value) {
            gst::error!(CAT, imp = self, "no property {}", spec.name());
        }
        if spec.name() == "token"
            && let Ok(Some(token)) = value.get::<Option<String>>()
            && let Some(conductor) = &*lock(&self.conductor)
        {
            conductor.set_token(token);
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        let value = self.published.get(spec.name()).or_else(|| lock(&self.settings).get(spec.name()));
        value.unwrap_or_else(|| spec.default_value().clone())
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        // A pipeline sends EOS to its sources. The flag makes this element a source even without pads.
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
                "Joins a room on a signaling server and receives the streams of one sender there",
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
            gst::StateChange::ReadyToNull => Self::clean_up(),
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::ReadyToPaused => {
                if result.is_err() {
                    self.stop();
                    self.remove_pads();
                }
                // The element is live, although its live sources are added later.
                result.map(|_| gst::StateChangeSuccess::NoPreroll)
            }
            gst::StateChange::PausedToPlaying => {
                self.playing.store(result.is_ok(), Ordering::Relaxed);
                result
            }
            gst::StateChange::PlayingToPaused => result.map(|_| gst::StateChangeSuccess::NoPreroll),
            gst::StateChange::PausedToReady => {
                self.remove_pads();
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
            // The latency is that of the jitter buffer. If the pipeline is configured with more, the outputs hold media
            // for longer.
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
        if lock(&self.conductor).is_some() {
            return Err(glib::Error::new(
                gst::URIError::BadState,
                "the URI can be changed in NULL and READY only",
            ));
        }
        let parsed = uri::parse(uri).map_err(|error| glib::Error::new(gst::URIError::BadUri, &error))?;
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
        let conductor = options.and_then(|options| ConductorHandle::start(&self.obj(), settings, options));
        match conductor {
            Ok(conductor) => {
                let settings = lock(&self.settings);
                // Passes on a token that was set while there was no conductor yet.
                if let Some(token) =
                    settings.signaling.token.clone().filter(|now| Some(now) != token.as_ref())
                {
                    conductor.set_token(token);
                }
                *lock(&self.conductor) = Some(conductor);
                Ok(())
            }
            Err(error) => {
                gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", error));
                Err(gst::StateChangeError)
            }
        }
    }

    /// Waits for background work before the application may unload the plugin.
    fn clean_up() {
        certificate::wait_for_warm_up();
    }

    /// Leaves the room. The lock is not held while waiting, because `set_uri` and reading `stats` must not wait.
    fn stop(&self) {
        let conductor = lock(&self.conductor).take();
        if let Some(conductor) = conductor {
            conductor.stop(STOP_LIMIT);
            *lock(&self.conductor) = Some(conductor);
        }
    }

    /// Handles an EOS event while there are no pads for it to travel through. Returns false if there are pads.
    fn end_without_pads(&self, seqnum: gst::Seqnum) -> bool {
        let pipeline = self.pipeline_without_other_sources();
        // This may call the application, so the lock is not held.
        let outputs = lock(&self.conductor).as_ref().map(ConductorHandle::outputs);
        let ended = outputs.is_some_and(|outputs| outputs.end_without_pads(pipeline.is_some()));
        if let Some(pipeline) = pipeline.filter(|_| ended) {
            // No sink of the pipeline will ever receive data, so none of them can post EOS.
            let message = gst::message::Eos::builder().src(&pipeline).seqnum(seqnum).build();
            // Fails only if the pipeline has no bus, and then nothing receives the message.
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

    /// Removes the pads, whose streaming threads have ended, and resets the read-only properties.
    fn remove_pads(&self) {
        let conductor = lock(&self.conductor).take();
        if let Some(conductor) = conductor {
            conductor.remove_pads();
        }
        self.published.reset();
        self.obj().notify("signaling-state");
    }
}

/// The interface of the element for the conductor and the outputs.
impl super::RoomWebRtcSrc {
    pub(super) fn is_playing(&self) -> bool {
        self.imp().playing.load(Ordering::Relaxed)
    }

    pub(super) fn eos_on_bye(&self) -> bool {
        lock(&self.imp().settings).eos_on_bye
    }

    /// Publishes the state of signaling and posts it on the bus.
    pub(super) fn set_signaling_state(&self, state: SignalingState) {
        let status = self.imp().published.set_signaling_state(state);
        self.notify("signaling-state");
        self.notify("signaling-reason");
        message::signaling_state(self, &status);
    }

    /// Publishes the id that the element has in its room.
    pub(super) fn set_client_id(&self, id: &str) {
        if self.imp().published.set_client_id(id) {
            self.notify("assigned-client-id");
        }
    }

    /// Publishes why the element is not in its room.
    pub(super) fn set_signaling_reason(&self, reason: String) {
        self.imp().published.set_signaling_reason(reason);
        self.notify("signaling-reason");
    }

    /// The state that the conductor publishes.
    pub(super) fn published(&self) -> &PublishedState {
        &self.imp().published
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_conductor_is_an_error_of_the_element_which_can_be_restarted() {
        gst::init().expect("GStreamer");
        let element: super::super::RoomWebRtcSrc = glib::Object::new();
        element.set_property("signaling-uri", "ws://127.0.0.1:9");
        let pipeline = gst::Pipeline::new();
        pipeline.add(&element).expect("added");
        let bus = pipeline.bus().expect("a bus");
        for round in 1..=2 {
            pipeline.set_state(gst::State::Playing).expect("PLAYING");
            lock(&element.imp().conductor).as_ref().expect("a conductor").panic();
            let timeout = gst::ClockTime::from_seconds(30);
            let message = bus.timed_pop_filtered(timeout, &[gst::MessageType::Error]).expect("an error");
            let gst::MessageView::Error(error) = message.view() else { panic!("{message:?}") };
            let text = error.error().to_string();
            assert!(text.contains("the conductor panicked"), "round {round}: {text}");
            assert_eq!(message.src(), Some(element.upcast_ref()));
            pipeline.set_state(gst::State::Null).expect("NULL");
        }
    }
}
