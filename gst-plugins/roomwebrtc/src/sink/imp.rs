//! The element: properties, signals, request pads, state changes. The work is done in the modules beside this one.

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
    time::Now,
};
use gst::{glib, prelude::*, subclass::prelude::*};
use room_signaling_client::wire::Role;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

/// How long stopping may wait for the goodbye to get out.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long the way to NULL may wait for the receivers' pipelines to be taken down.
const TEARDOWN: Duration = Duration::from_secs(5);

/// The values of all writable properties.
#[derive(Default, Clone)]
struct Properties {
    signaling: SignalingSettings,
    sink: Settings,
}

#[derive(Default)]
pub struct RoomWebRtcSink {
    properties: Mutex<Properties>,
    pads: Mutex<BTreeMap<StreamKey, Arc<SinkPad>>>,
    time: Arc<SharedTime>,
    conductor: CommandSender,
    published: Arc<PublishedState>,
    server: Mutex<Option<room_signaling_server::Running>>,
    /// Of a conductor that had not ended when stopping stopped waiting.
    ending: Mutex<Option<mpsc::Receiver<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            signaling::properties()
                .into_iter()
                .chain(settings::properties())
                .chain(published::properties())
                .collect()
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        // The conductor is told under the lock, so that it learns of changes in the order in which they happen.
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
        let read_only = self.published.get(name);
        let value = read_only.or_else(|| {
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

/// Signals are emitted on the conductor's thread, actions may be called from any. Neither waits for the network.
fn signals() -> Vec<glib::subclass::Signal> {
    use glib::subclass::Signal;
    let action = |name: &'static str| Signal::builder(name).action();
    let string = String::static_type();
    vec![
        Signal::builder("receiver-added").param_types([string, gst::Element::static_type()]).build(),
        Signal::builder("receiver-removed").param_types([string, string]).build(),
        Signal::builder("authorize-receiver")
            .param_types([string, string])
            .return_type::<bool>()
            .class_handler(|_| Some(true.to_value()))
            .accumulator(|_, _, value| match value.get() {
                Ok(true) => std::ops::ControlFlow::Continue(true.to_value()),
                _ => std::ops::ControlFlow::Break(false.to_value()),
            })
            .build(),
        Signal::builder("data").param_types([string, string, glib::Bytes::static_type()]).build(),
        action("kick")
            .param_types([string])
            .class_handler(|values| {
                if let [element, id] = values
                    && let (Ok(element), Ok(id)) = (element.get::<super::RoomWebRtcSink>(), id.get())
                {
                    element.imp().conductor.send(Command::Kick(id));
                }
                None
            })
            .build(),
        action("request-keyframe")
            .class_handler(|values| {
                if let Some(Ok(element)) = values.first().map(glib::Value::get::<super::RoomWebRtcSink>) {
                    element.imp().conductor.send(Command::RequestKeyframe);
                }
                None
            })
            .build(),
        action("send-data")
            .param_types([string, glib::Bytes::static_type()])
            .class_handler(|values| {
                if let [element, id, bytes] = values
                    && let (Ok(element), Ok(id), Ok(bytes)) =
                        (element.get::<super::RoomWebRtcSink>(), id.get(), bytes.get())
                {
                    element.imp().conductor.send(Command::SendData(id, bytes));
                }
                None
            })
            .build(),
    ]
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
            gst::error!(CAT, imp = self, "{name:?} is no pad of this element: request video_0, video_1, ...");
            return None;
        };
        // One lock over choosing and inserting: two threads must never get the same pad.
        let (ghost, pad_input) = {
            let mut pads = lock(&self.pads);
            if pads.len() >= MAX_STREAMS {
                gst::error!(
                    CAT,
                    imp = self,
                    "a receiver can have {MAX_STREAMS} streams at most: use another roomwebrtcsink"
                );
                return None;
            }
            let key = key.or_else(|| free_key(&pads))?;
            let Entry::Vacant(entry) = pads.entry(key) else {
                gst::error!(CAT, imp = self, "the pad {key} exists already");
                return None;
            };
            let ghost = ghost_pad(template, key);
            let pad_input = entry.insert(Arc::new(SinkPad::new(
                key,
                ghost.clone(),
                self.conductor.clone(),
                self.time.clone(),
            )));
            (ghost, pad_input.clone())
        };
        if self.obj().add_pad(&ghost).is_err() {
            lock(&self.pads).remove(&pad_input.key);
            return None;
        }
        self.watch_pad(&ghost, pad_input.key);
        pad_input.announce_pad();
        Some(ghost.upcast())
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let pad_input = {
            let mut pads = lock(&self.pads);
            let key = pads
                .iter()
                .find(|(_, pad_input)| pad_input.ghost.upcast_ref::<gst::Pad>() == pad)
                .map(|(key, _)| *key);
            key.and_then(|key| pads.remove(&key))
        };
        let Some(pad_input) = pad_input else { return };
        pad_input.release(&self.obj());
        let _ = self.obj().remove_pad(pad);
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
                self.all_inputs().iter().for_each(|pad_input| pad_input.timing.reset());
                self.start()?;
            }
            gst::StateChange::PausedToPlaying => {
                self.time.set_playing(true);
                if let Some(now) = Now::of(&*self.obj()) {
                    self.all_inputs().iter().for_each(|pad_input| pad_input.timing.play(now));
                }
            }
            gst::StateChange::PlayingToPaused => self.time.set_playing(false),
            _ => {}
        }
        let result = self.parent_change_state(transition);
        match transition {
            gst::StateChange::PausedToReady => {
                // A pad may carry another codec in the next run.
                self.all_inputs().iter().for_each(|pad_input| pad_input.remove_chain(&self.obj()));
                self.stop();
            }
            gst::StateChange::ReadyToNull => self.clean_up(),
            // No READY→NULL follows this.
            gst::StateChange::NullToReady if result.is_err() => self.clean_up(),
            gst::StateChange::ReadyToPaused if result.is_err() => self.stop(),
            _ => {}
        }
        result
    }
}

impl BinImpl for RoomWebRtcSink {}

/// The first name that no pad has.
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
    fn all_inputs(&self) -> Vec<Arc<SinkPad>> {
        lock(&self.pads).values().cloned().collect()
    }

    fn pad_input(&self, key: StreamKey) -> Option<Arc<SinkPad>> {
        lock(&self.pads).get(&key).cloned()
    }

    fn watch_pad(&self, ghost: &gst::GhostPad, key: StreamKey) {
        let element = self.obj().downgrade();
        ghost.connect_linked(move |_, _| {
            if let Some(element) = element.upgrade()
                && element.current_state() >= gst::State::Paused
                && let Some(pad_input) = element.imp().pad_input(key)
            {
                element.imp().look_upstream(&pad_input);
            }
        });
        let element = self.obj().downgrade();
        ghost.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST, move |_, _| {
            if let Some(element) = element.upgrade()
                && let Some(pad_input) = element.imp().pad_input(key)
            {
                pad_input.refuse_data_without_caps(&element);
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn look_upstream(&self, pad_input: &SinkPad) {
        let tunes = lock(&self.properties).sink.tune_upstream;
        pad_input.look_upstream(&self.obj(), tunes);
    }

    fn sink_event(&self, key: StreamKey, pad: &gst::GhostPad, event: gst::Event) -> bool {
        let bin = self.obj();
        if let Some(pad_input) = self.pad_input(key) {
            match event.view() {
                gst::EventView::Caps(caps) => {
                    if let Err(refusal) = pad_input.set_caps(&bin, caps.caps()) {
                        gst::element_imp_error!(self, gst::StreamError::Format, ("{refusal}"));
                        return false;
                    }
                }
                // An encoder that was linked late has not opened yet.
                gst::EventView::StreamStart(_) => self.look_upstream(&pad_input),
                gst::EventView::Segment(segment) => {
                    if let Err(refusal) = pad_input.segment(segment.segment()) {
                        gst::element_imp_error!(self, gst::StreamError::Format, ("{refusal}"));
                        return false;
                    }
                }
                gst::EventView::FlushStop(flush) => pad_input.flushed(&bin, flush),
                gst::EventView::Eos(_) => pad_input.handle_eos(&bin),
                _ => {}
            }
        }
        gst::Pad::event_default(pad, Some(&*bin), event)
    }

    fn sink_query(&self, key: StreamKey, pad: &gst::GhostPad, query: &mut gst::QueryRef) -> bool {
        let pad_input = self.pad_input(key);
        match (query.view_mut(), pad_input) {
            (gst::QueryViewMut::Caps(query), Some(pad_input)) => {
                let caps = pad_input.answer_caps(query.filter_owned().as_ref());
                query.set_result(&caps);
                true
            }
            (gst::QueryViewMut::AcceptCaps(query), _) => {
                let caps = query.caps_owned();
                query.set_result(SinkPad::accepts(&caps));
                true
            }
            (_, _) => gst::Pad::query_default(pad, Some(&*self.obj()), query),
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
        gst::info!(CAT, imp = self, "viewer: http://{}/", running.local_addr());
        *lock(&self.server) = Some(running);
        Ok(())
    }

    /// Nothing of this element may be at work when the process ends. No lock is held while waiting.
    fn clean_up(&self) {
        let ending = lock(&self.ending).take();
        if let Some(ending) = ending {
            let _ = ending.recv_timeout(TEARDOWN);
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
            // A property that is set from now on reaches the conductor; one that was set before is in the copy.
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
        let start = ConductorConfig {
            element: self.obj().downgrade(),
            sender,
            commands,
            handle,
            published: self.published.clone(),
            signaling,
            settings,
        };
        Conductor::spawn(start).map_err(|error| format!("no thread can be made: {error}"))?;
        for pad_input in self.all_inputs() {
            pad_input.announce_pad();
            pad_input.look_upstream(&self.obj(), tune_upstream);
        }
        Ok(())
    }

    /// Says goodbye and waits for it a little; what takes longer ends by itself.
    fn stop(&self) {
        let Some(conductor) = self.conductor.connect(None) else { return };
        let (done, ended) = mpsc::sync_channel(1);
        if conductor.send(Command::Stop(done)).is_ok() && ended.recv_timeout(GOODBYE).is_err() {
            *lock(&self.ending) = Some(ended);
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
