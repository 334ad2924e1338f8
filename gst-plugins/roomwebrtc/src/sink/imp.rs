//! The element `roomwebrtcsink` itself: properties, signals, request pads and state changes. `sink_pad.rs` handles the pads,
//! and the conductor handles receivers while the element is in PAUSED or PLAYING.

use super::{
    caps,
    command_sender::CommandSender,
    conductor::{Command, Conductor, ConductorConfig},
    inner_server,
    published::{self, PublishedState},
    session::MAX_STREAMS,
    settings::{self, Settings},
    sink_pad::SinkPad,
    timing::SharedTime,
};
use crate::{
    codec::MediaKind,
    log::CAT,
    peer::certificate,
    signaling::{self, SignalingSettings, SignalingState},
    stream_key::StreamKey,
    sync::lock,
    time::Now,
};
use gst::{glib, prelude::*, subclass::prelude::*};
use room_signaling_client::wire::Role;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, LazyLock, Mutex, mpsc},
    time::Duration,
};

/// How long PAUSED→READY waits for the conductor to end all sessions and leave the room.
const STOP_LIMIT: Duration = Duration::from_millis(500);
/// How long READY→NULL waits for a conductor that exceeded [`STOP_LIMIT`].
const TEARDOWN_LIMIT: Duration = Duration::from_secs(5);

/// The values of all writable properties.
#[derive(Default, Clone)]
struct Properties {
    signaling: SignalingSettings,
    sink: Settings,
}

/// The state of a `roomwebrtcsink`.
#[derive(Default)]
pub struct RoomWebRtcSink {
    properties: Mutex<Properties>,
    pads: Mutex<BTreeMap<StreamKey, Arc<SinkPad>>>,
    time: Arc<SharedTime>,
    conductor: CommandSender,
    published: Arc<PublishedState>,
    server: Mutex<Option<room_signaling_server::Running>>,
    /// Receives the end of a conductor that exceeded [`STOP_LIMIT`].
    late_conductor: Mutex<Option<mpsc::Receiver<()>>>,
}

#[glib::object_subclass]
impl ObjectSubclass for RoomWebRtcSink {
    const NAME: &'static str = "GstRoomWebRTCSink";
    type Type = super::RoomWebRtcSink;
    type ParentType = gst::Bin;
}

impl ObjectImpl for RoomWebRtcSink {
    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        self.obj().set_element_flags(gst::ElementFlags::SINK);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let signaling = signaling::properties().into_iter();
            signaling.chain(settings::properties()).chain(published::properties()).collect()
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        // The lock is held while sending, so that the conductor receives changes in the order in which they are made.
        let mut properties = lock(&self.properties);
        let before = properties.sink.runtime;
        if !properties.sink.set(pspec.name(), value) && !properties.signaling.set(pspec.name(), value) {
            gst::error!(CAT, imp = self, "unknown property {}", pspec.name());
        }
        if properties.sink.runtime != before {
            self.conductor.send(Command::Settings(properties.sink.runtime));
        }
        if pspec.name() == "token"
            && let Some(token) = &properties.signaling.token
        {
            self.conductor.send(Command::Token(token.clone()));
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let name = pspec.name();
        let value = self.published.get(name).or_else(|| {
            let properties = lock(&self.properties);
            properties.sink.get(name).or_else(|| properties.signaling.get(name))
        });
        value.unwrap_or_else(|| pspec.default_value().clone())
    }

    fn signals() -> &'static [glib::subclass::Signal] {
        static SIGNALS: LazyLock<Vec<glib::subclass::Signal>> = LazyLock::new(signals);
        &SIGNALS
    }

    fn dispose(&self) {
        self.stop();
    }
}

/// The signals, which the conductor's thread emits, and the actions, which only send a command to it.
fn signals() -> Vec<glib::subclass::Signal> {
    use glib::subclass::Signal;
    let string = String::static_type();
    let authorize = Signal::builder("authorize-receiver")
        .param_types([string, string])
        .return_type::<bool>()
        .class_handler(|_| Some(true.to_value()))
        // The first handler that does not return true decides.
        .accumulator(|_, _, value| match value.get() {
            Ok(true) => std::ops::ControlFlow::Continue(true.to_value()),
            _ => std::ops::ControlFlow::Break(false.to_value()),
        });
    vec![
        Signal::builder("receiver-added").param_types([string, gst::Element::static_type()]).build(),
        Signal::builder("receiver-removed").param_types([string, string]).build(),
        authorize.build(),
        Signal::builder("data").param_types([string, string, glib::Bytes::static_type()]).build(),
        action("kick", vec![string], |arguments| match arguments {
            [id] => Some(Command::Kick(id.get().ok()?)),
            _ => None,
        }),
        action("request-keyframe", vec![], |_| Some(Command::RequestKeyframe)),
        action("send-data", vec![string, glib::Bytes::static_type()], |arguments| match arguments {
            [id, bytes] => Some(Command::SendData(id.get().ok()?, bytes.get().ok()?)),
            _ => None,
        }),
    ]
}

/// An action that sends a command to the conductor.
fn action(
    name: &str,
    arguments: Vec<glib::Type>,
    command: fn(&[glib::Value]) -> Option<Command>,
) -> glib::subclass::Signal {
    let handler = move |values: &[glib::Value]| {
        if let [element, arguments @ ..] = values
            && let Ok(element) = element.get::<super::RoomWebRtcSink>()
            && let Some(command) = command(arguments)
        {
            element.imp().conductor.send(command);
        }
        None
    };
    glib::subclass::Signal::builder(name).action().param_types(arguments).class_handler(handler).build()
}

impl GstObjectImpl for RoomWebRtcSink {}

impl ElementImpl for RoomWebRtcSink {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Room WebRTC sink",
                "Sink/Network/WebRTC",
                "Joins a room on a signaling server and sends one stream, encoded once, to every receiver there",
                "The room-signaling project",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let template = gst::PadTemplate::new(
                "video_%u",
                gst::PadDirection::Sink,
                gst::PadPresence::Request,
                &caps::template(),
            );
            template.into_iter().collect()
        });
        &TEMPLATES
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let key = name
            .map(str::parse)
            .transpose()
            .ok()
            .filter(|key| key.is_none_or(|key: StreamKey| key.kind == MediaKind::Video));
        let Some(key) = key else {
            gst::error!(
                CAT,
                imp = self,
                "{name:?} is not a pad of this element: request video_0, video_1, ..."
            );
            return None;
        };
        // One lock covers the choice of the name and the insertion, because two threads may request pads at the same time.
        let (ghost, pad) = {
            let mut pads = lock(&self.pads);
            if pads.len() >= MAX_STREAMS {
                gst::error!(
                    CAT,
                    imp = self,
                    "a receiver can have at most {MAX_STREAMS} streams: use another roomwebrtcsink"
                );
                return None;
            }
            let key = key.or_else(|| free_key(&pads))?;
            let Entry::Vacant(entry) = pads.entry(key) else {
                gst::error!(CAT, imp = self, "the pad {key} already exists");
                return None;
            };
            let ghost = ghost_pad(template, key);
            let pad = entry.insert(Arc::new(SinkPad::new(
                key,
                ghost.clone(),
                self.conductor.clone(),
                self.time.clone(),
            )));
            (ghost, pad.clone())
        };
        if self.obj().add_pad(&ghost).is_err() {
            lock(&self.pads).remove(&pad.key);
            return None;
        }
        self.watch_pad(&ghost, pad.key);
        pad.announce_pad();
        Some(ghost.upcast())
    }

    fn release_pad(&self, ghost: &gst::Pad) {
        let pad = {
            let mut pads = lock(&self.pads);
            let key =
                pads.iter().find(|(_, pad)| pad.ghost.upcast_ref::<gst::Pad>() == ghost).map(|(key, _)| *key);
            key.and_then(|key| pads.remove(&key))
        };
        let Some(pad) = pad else { return };
        pad.release(&self.obj());
        let _ = self.obj().remove_pad(ghost);
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => {
                self.start_server()?;
                certificate::warm_up();
            }
            gst::StateChange::ReadyToPaused => {
                self.all_pads().iter().for_each(|pad| pad.timing.reset());
                self.start()?;
            }
            gst::StateChange::PausedToPlaying => {
                self.time.set_playing(true);
                if let Some(now) = Now::of(&*self.obj()) {
                    self.all_pads().iter().for_each(|pad| pad.timing.play(now));
                }
            }
            gst::StateChange::PlayingToPaused => self.time.set_playing(false),
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToReady => {
                // The next run may have another codec.
                self.all_pads().iter().for_each(|pad| pad.remove_chain(&self.obj()));
                self.stop();
            }
            gst::StateChange::ReadyToNull => self.clean_up(),
            // No READY→NULL follows a failure.
            gst::StateChange::NullToReady if result.is_err() => self.clean_up(),
            gst::StateChange::ReadyToPaused if result.is_err() => self.stop(),
            _ => {}
        }
        result
    }
}

impl BinImpl for RoomWebRtcSink {}

/// The first name that is not in use.
fn free_key(pads: &BTreeMap<StreamKey, Arc<SinkPad>>) -> Option<StreamKey> {
    (0..=u32::MAX)
        .map(|index| StreamKey { kind: MediaKind::Video, index })
        .find(|key| !pads.contains_key(key))
}

fn ghost_pad(template: &gst::PadTemplate, key: StreamKey) -> gst::GhostPad {
    gst::GhostPad::builder_from_template(template)
        .name(key.pad_name())
        .event_function(move |pad, parent, event| {
            RoomWebRtcSink::catch_panic_pad_function(parent, || false, |imp| imp.sink_event(key, pad, event))
        })
        .query_function(move |pad, parent, query| {
            RoomWebRtcSink::catch_panic_pad_function(parent, || false, |imp| imp.sink_query(key, pad, query))
        })
        .build()
}

impl RoomWebRtcSink {
    fn all_pads(&self) -> Vec<Arc<SinkPad>> {
        lock(&self.pads).values().cloned().collect()
    }

    fn pad(&self, key: StreamKey) -> Option<Arc<SinkPad>> {
        lock(&self.pads).get(&key).cloned()
    }

    /// Watches for links and data that the pad's event function does not see.
    fn watch_pad(&self, ghost: &gst::GhostPad, key: StreamKey) {
        let element = self.obj().downgrade();
        ghost.connect_linked(move |_, _| {
            if let Some(element) = element.upgrade()
                && element.current_state() >= gst::State::Paused
                && let Some(pad) = element.imp().pad(key)
            {
                element.imp().monitor_upstream(&pad);
            }
        });
        let element = self.obj().downgrade();
        ghost.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
            if let Some(element) = element.upgrade()
                && let Some(pad) = element.imp().pad(key)
            {
                pad.refuse_data_without_caps(&element);
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn monitor_upstream(&self, pad: &SinkPad) {
        let tunes = lock(&self.properties).sink.tune_upstream;
        pad.monitor_upstream(&self.obj(), tunes);
    }

    fn sink_event(&self, key: StreamKey, ghost: &gst::GhostPad, event: gst::Event) -> bool {
        let bin = self.obj();
        if let Some(pad) = self.pad(key) {
            match event.view() {
                gst::EventView::Caps(caps) => {
                    if let Err(unsupported) = pad.handle_caps(&bin, caps.caps()) {
                        gst::element_imp_error!(self, gst::StreamError::Format, ("{unsupported}"));
                        return false;
                    }
                }
                // An encoder that was linked after the start is not encoding yet, so it can still be configured.
                gst::EventView::StreamStart(_) => self.monitor_upstream(&pad),
                gst::EventView::Segment(segment) => {
                    if let Err(unsupported) = pad.handle_segment(segment.segment()) {
                        gst::element_imp_error!(self, gst::StreamError::Format, ("{unsupported}"));
                        return false;
                    }
                }
                gst::EventView::FlushStop(flush) => pad.handle_flush_stop(&bin, flush),
                gst::EventView::Eos(_) => pad.handle_eos(&bin),
                _ => {}
            }
        }
        gst::Pad::event_default(ghost, Some(&*bin), event)
    }

    fn sink_query(&self, key: StreamKey, ghost: &gst::GhostPad, query: &mut gst::QueryRef) -> bool {
        let pad = self.pad(key);
        match (query.view_mut(), pad) {
            (gst::QueryViewMut::Caps(query), Some(pad)) => {
                let caps = pad.query_caps(query.filter_owned().as_ref());
                query.set_result(&caps);
                true
            }
            (gst::QueryViewMut::AcceptCaps(query), _) => {
                let caps = query.caps_owned();
                query.set_result(SinkPad::accepts(&caps));
                true
            }
            (_, _) => gst::Pad::query_default(ghost, Some(&*self.obj()), query),
        }
    }

    fn start_server(&self) -> Result<(), gst::StateChangeError> {
        let settings = lock(&self.properties).sink.clone();
        if !settings.run_signaling_server {
            return Ok(());
        }
        let running = inner_server::start(&settings).map_err(|error| {
            gst::element_imp_error!(self, gst::ResourceError::OpenReadWrite, ("{error}"));
            gst::StateChangeError
        })?;
        gst::info!(CAT, imp = self, "the viewer page is at http://{}/", running.local_addr());
        *lock(&self.server) = Some(running);
        Ok(())
    }

    /// Waits for all threads of this element, because a process that ends while they run may crash. No lock is held while
    /// waiting.
    fn clean_up(&self) {
        let conductor = lock(&self.late_conductor).take();
        if let Some(ended) = conductor {
            let _ = ended.recv_timeout(TEARDOWN_LIMIT);
        }
        let server = lock(&self.server).take();
        drop(server);
        certificate::wait_for_warm_up();
    }

    fn start(&self) -> Result<(), gst::StateChangeError> {
        let started = self.try_start();
        started.map_err(|error| {
            self.conductor.connect(None);
            gst::element_imp_error!(self, gst::ResourceError::Settings, ("{error}"));
            gst::StateChangeError
        })
    }

    fn try_start(&self) -> Result<(), String> {
        let (sender, commands) = mpsc::channel();
        let Properties { mut signaling, sink: settings } = {
            // A property that is set before this lock is in the copy; one that is set after it is sent to the conductor.
            let properties = lock(&self.properties);
            self.conductor.connect(Some(sender.clone()));
            properties.clone()
        };
        if let Some(server) = &*lock(&self.server) {
            signaling.uri = format!("ws://{}", inner_server::reachable(server.local_addr()));
        }
        let options = signaling.options(Role::Sender)?;
        let (handle, events) = {
            let _runtime = signaling::runtime().enter();
            room_signaling_client::spawn(options).map_err(|error| error.to_string())?
        };
        signaling::runtime().spawn(forward(events, sender.clone()));
        self.published.reset();
        self.published.set_signaling_state(SignalingState::Connecting);
        let tune_upstream = settings.tune_upstream;
        let config = ConductorConfig {
            element: self.obj().downgrade(),
            sender,
            commands,
            handle,
            published: self.published.clone(),
            signaling,
            settings,
        };
        Conductor::spawn(config).map_err(|error| format!("cannot create a thread: {error}"))?;
        for pad in self.all_pads() {
            pad.announce_pad();
            pad.monitor_upstream(&self.obj(), tune_upstream);
        }
        Ok(())
    }

    /// Ends all sessions and leaves the room. After [`STOP_LIMIT`] this continues in the background.
    fn stop(&self) {
        let Some(conductor) = self.conductor.connect(None) else { return };
        let (done, ended) = mpsc::sync_channel(1);
        if conductor.send(Command::Stop(done)).is_ok() && ended.recv_timeout(STOP_LIMIT).is_err() {
            *lock(&self.late_conductor) = Some(ended);
        }
        self.published.reset();
    }
}

/// Sends the events of the signaling client to the conductor.
async fn forward(mut events: room_signaling_client::Events, conductor: mpsc::Sender<Command>) {
    while let Some(event) = events.recv().await {
        if conductor.send(Command::Signaling(event)).is_err() {
            return;
        }
    }
    // The conductor may have ended before the client.
    let _ = conductor.send(Command::SignalingEnded);
}

#[cfg(test)]
mod tests;
