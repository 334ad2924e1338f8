//! The implementation of `realsensesrc`: properties, state changes, requested pads. [`crate::reader`] reads the camera;
//! [`crate::stream`] makes the buffers of each pad.

use super::{
    pads::{self, SourcePad},
    settings::{self, Settings},
};
use crate::{
    CAT,
    camera::StreamKind,
    reader::{Reader, Report},
    stream::PadStream,
    sync::lock,
};
use gst::{glib, prelude::*, subclass::prelude::*};
use std::sync::{LazyLock, Mutex};

/// The state and the settings of a `realsensesrc`.
#[derive(Default)]
pub struct RealSenseSrc {
    settings: Mutex<Settings>,
    reader: Mutex<Option<Reader>>,
    pads: Mutex<Vec<SourcePad>>,
    group: Mutex<Option<gst::GroupId>>,
}

#[glib::object_subclass]
impl ObjectSubclass for RealSenseSrc {
    const NAME: &'static str = "GstRealSenseSrc";
    type Type = super::RealSenseSrc;
    type ParentType = gst::Bin;
}

impl ObjectImpl for RealSenseSrc {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(settings::properties);
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let mut settings = lock(&self.settings);
        if !settings.set(spec.name(), value) {
            gst::error!(CAT, imp = self, "no property {}", spec.name());
        }
        let settings = settings.clone();
        if let Some(reader) = &*lock(&self.reader) {
            reader.set_controls(settings.controls());
            reader.set_processing(settings.processing());
            reader.set_reconnect(settings.reconnect);
        }
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        lock(&self.settings).get(spec.name()).unwrap_or_else(|| spec.default_value().clone())
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_suppressed_flags(gst::ElementFlags::SOURCE | gst::ElementFlags::SINK);
        element.set_element_flags(gst::ElementFlags::SOURCE);
        if let Err(error) = self.add_source_pad("src", "src", None) {
            gst::error!(CAT, imp = self, "{error}");
        }
    }
}

impl GstObjectImpl for RealSenseSrc {}

impl ElementImpl for RealSenseSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "RealSense source",
                "Source/Video/Hardware",
                "Captures color, depth, infrared and motion from a RealSense camera or a recording of one",
                "The room-signaling project",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        pads::templates()
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        let (name, pad_stream) = match template.name_template() {
            "color" => ("color".to_owned(), PadStream::Video(StreamKind::Color)),
            "depth" => ("depth".to_owned(), PadStream::Video(StreamKind::Depth)),
            "motion" => ("motion".to_owned(), PadStream::Motion),
            _ => {
                let index = self.infrared_index(name)?;
                (format!("infrared_{index}"), PadStream::Video(StreamKind::Infrared(index)))
            }
        };
        let added = self.add_source_pad(template.name_template(), &name, Some(pad_stream));
        added.inspect_err(|error| gst::warning!(CAT, imp = self, "pad {name}: {error}")).ok()
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let Some(source_pad) = self.source_pad_of(pad) else { return };
        lock(&self.pads).retain(|known| known.pad != source_pad.pad);
        source_pad.detach();
        // Each call fails only if what it removes is not there.
        let _ = source_pad.pad.set_active(false);
        let _ = self.obj().remove_pad(&source_pad.pad);
        let _ = self.obj().remove(&source_pad.stream);
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::ReadyToPaused => self.open()?,
            gst::StateChange::PausedToPlaying => self.set_playing(true),
            gst::StateChange::PlayingToPaused => self.set_playing(false),
            gst::StateChange::PausedToReady => {
                if let Some(reader) = &*lock(&self.reader) {
                    reader.begin_to_close();
                }
            }
            _ => {}
        }
        let result = self.parent_change_state(transition);
        let failed = transition == gst::StateChange::ReadyToPaused && result.is_err();
        if failed || transition == gst::StateChange::PausedToReady {
            self.close();
        }
        result
    }
}

impl BinImpl for RealSenseSrc {
    fn handle_message(&self, message: gst::Message) {
        // A stream whose pad was unlinked while it pushed posts an error. The stream stops, but the element continues.
        if message.type_() == gst::MessageType::Error {
            let pads = lock(&self.pads).clone();
            let source_pad =
                pads.iter().find(|source_pad| message.src() == Some(source_pad.stream.upcast_ref()));
            if source_pad.is_some_and(|source_pad| !source_pad.pad.is_linked()) {
                gst::debug!(CAT, imp = self, "an unlinked stream stops");
                return;
            }
        }
        self.parent_handle_message(message);
    }
}

impl RealSenseSrc {
    fn add_source_pad(
        &self,
        template: &str,
        name: &str,
        pad_stream: Option<PadStream>,
    ) -> Result<gst::Pad, glib::BoolError> {
        let element = self.obj();
        if element.static_pad(name).is_some() {
            return Err(glib::bool_error!("the pad exists already"));
        }
        let template =
            element.pad_template(template).ok_or_else(|| glib::bool_error!("no template {template}"))?;
        let source_pad = SourcePad::new(&element, &template, name, pad_stream)?;
        let pad = source_pad.pad.clone();
        lock(&self.pads).push(source_pad);
        element.add_pad(&pad)?;
        Ok(pad.upcast())
    }

    /// The index in the requested name, or the first free one.
    fn infrared_index(&self, name: Option<&str>) -> Option<u8> {
        let named = name.and_then(|name| name.strip_prefix("infrared_")).and_then(|index| index.parse().ok());
        let free = |index: &u8| self.obj().static_pad(&format!("infrared_{index}")).is_none();
        named.or_else(|| (1..=2).find(free)).filter(|index| (1..=2).contains(index))
    }

    fn source_pad_of(&self, pad: &gst::Pad) -> Option<SourcePad> {
        lock(&self.pads).iter().find(|source_pad| source_pad.pad.upcast_ref::<gst::Pad>() == pad).cloned()
    }

    /// Opens the camera and attaches the streams of all linked pads to it. Nothing streams yet.
    fn open(&self) -> Result<(), gst::StateChangeError> {
        self.try_open().map_err(|message| {
            self.close();
            gst::element_imp_error!(self, gst::ResourceError::OpenRead, ("{}", message));
            gst::StateChangeError
        })
    }

    fn try_open(&self) -> Result<(), String> {
        let settings = lock(&self.settings).clone();
        settings.check()?;
        let linked: Vec<_> =
            lock(&self.pads).iter().filter(|source_pad| source_pad.pad.is_linked()).cloned().collect();
        if linked.is_empty() {
            return Err(
                "no pad is linked: link src, or request and link color, depth, infrared_1, infrared_2 or motion"
                    .to_owned(),
            );
        }
        let weak = self.obj().downgrade();
        let report = move |report| {
            if let Some(element) = weak.upgrade() {
                post(&element, report);
            }
        };
        let (controls, processing) = (settings.controls(), settings.processing());
        let reader = Reader::open(settings.request(), controls, processing, report);
        let reader = reader.map_err(|error| error.to_string())?;
        gst::info!(CAT, imp = self, "reading from {}", crate::reader::title(&reader.device()));
        *lock(&self.group) = Some(gst::GroupId::next());
        // The reader is stored first, so that `close` stops it if the following fails.
        let mut guard = lock(&self.reader);
        let reader = guard.insert(reader);
        linked
            .iter()
            .try_for_each(|source_pad| source_pad.attach(reader, settings.stream.kind(), &processing))
    }

    fn set_playing(&self, playing: bool) {
        if let Some(reader) = &*lock(&self.reader) {
            reader.set_playing(playing);
        }
    }

    /// The lock is not held while the camera stops.
    fn close(&self) {
        for source_pad in lock(&self.pads).clone() {
            source_pad.detach();
        }
        let reader = lock(&self.reader).take();
        drop(reader);
    }

    /// Follows a pad that was linked or unlinked while the element runs.
    fn update_link(&self, pad: &gst::Pad) {
        let Some(source_pad) = self.source_pad_of(pad) else { return };
        // The stream is detached in any case, because the pad may have been unlinked and linked again in the meantime.
        source_pad.detach();
        if !pad.is_linked() {
            return;
        }
        let settings = lock(&self.settings).clone();
        let attached = match &*lock(&self.reader) {
            Some(reader) => source_pad.attach(reader, settings.stream.kind(), &settings.processing()),
            None => return,
        };
        match attached {
            Ok(()) => {
                // The stream reports its own failures.
                let _ = source_pad.stream.sync_state_with_parent();
            }
            Err(message) => gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", message)),
        }
    }
}

/// The interface of the element for its pads.
impl super::RealSenseSrc {
    /// Handles a changed link on another thread, because the current one may be a streaming thread.
    pub(super) fn link_changed(&self, pad: &gst::GhostPad, linked: bool) {
        let running = lock(&self.imp().reader).is_some();
        if running && pad.is_linked() == linked {
            let pad = pad.clone();
            self.call_async(move |element| element.imp().update_link(pad.upcast_ref()));
        }
    }

    /// The group id of the streams, new for each start of the element.
    pub(super) fn group(&self) -> Option<gst::GroupId> {
        *lock(&self.imp().group)
    }
}

fn post(element: &super::RealSenseSrc, report: Report) {
    match report {
        Report::Warning(text) => gst::element_warning!(element, gst::ResourceError::Settings, ("{text}")),
        Report::Info(text) => gst::element_info!(element, gst::ResourceError::Settings, ("{text}")),
    }
}
