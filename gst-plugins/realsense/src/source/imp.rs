//! The element: properties, states and pads. What it reads is in [`crate::reader`], what comes out in [`crate::stream`].

use super::{
    pads::{self, Outlet},
    settings::{self, Settings},
};
use crate::{
    CAT,
    camera::StreamKind,
    reader::{Reader, Report},
    stream::Which,
};
use gst::{glib, prelude::*, subclass::prelude::*};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// State and settings of a `realsensesrc`.
#[derive(Default)]
pub struct RealSenseSrc {
    settings: Mutex<Settings>,
    reader: Mutex<Option<Reader>>,
    outlets: Mutex<Vec<Outlet>>,
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
        if let Err(error) = self.add_outlet("src", "src", None) {
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
                "Color, depth, infrared and motion of a RealSense camera or of a recording of one",
                "The room-signaling developers",
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
        let (name, which) = match template.name_template() {
            "color" => ("color".to_owned(), Which::Video(StreamKind::Color)),
            "depth" => ("depth".to_owned(), Which::Video(StreamKind::Depth)),
            "motion" => ("motion".to_owned(), Which::Motion),
            _ => {
                let index = self.infrared_index(name)?;
                (format!("infrared_{index}"), Which::Video(StreamKind::Infrared(index)))
            }
        };
        let added = self.add_outlet(template.name_template(), &name, Some(which));
        added.inspect_err(|error| gst::warning!(CAT, imp = self, "pad {name}: {error}")).ok()
    }

    fn release_pad(&self, pad: &gst::Pad) {
        let Some(outlet) = self.outlet_of(pad) else { return };
        lock(&self.outlets).retain(|known| known.pad != outlet.pad);
        outlet.detach();
        // Fails only for what is not there.
        let _ = outlet.pad.set_active(false);
        let _ = self.obj().remove_pad(&outlet.pad);
        let _ = self.obj().remove(&outlet.stream);
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
        // A pad that was unlinked while its stream pushed: that is how it learns that it is to stop.
        if message.type_() == gst::MessageType::Error {
            let outlets = lock(&self.outlets).clone();
            let of = outlets.iter().find(|outlet| message.src() == Some(outlet.stream.upcast_ref()));
            if of.is_some_and(|outlet| !outlet.pad.is_linked()) {
                gst::debug!(CAT, imp = self, "an unlinked stream stops");
                return;
            }
        }
        self.parent_handle_message(message);
    }
}

impl RealSenseSrc {
    fn add_outlet(
        &self,
        template: &str,
        name: &str,
        which: Option<Which>,
    ) -> Result<gst::Pad, glib::BoolError> {
        let element = self.obj();
        if element.static_pad(name).is_some() {
            return Err(glib::bool_error!("there is one already"));
        }
        let template =
            element.pad_template(template).ok_or_else(|| glib::bool_error!("no template {template}"))?;
        let outlet = Outlet::new(&element, &template, name, which)?;
        let pad = outlet.pad.clone();
        lock(&self.outlets).push(outlet);
        element.add_pad(&pad)?;
        Ok(pad.upcast())
    }

    /// That of the name, or the first that is free.
    fn infrared_index(&self, name: Option<&str>) -> Option<u8> {
        let named = name.and_then(|name| name.strip_prefix("infrared_")).and_then(|index| index.parse().ok());
        let free = |index: &u8| self.obj().static_pad(&format!("infrared_{index}")).is_none();
        named.or_else(|| (1..=2).find(free)).filter(|index| (1..=2).contains(index))
    }

    fn outlet_of(&self, pad: &gst::Pad) -> Option<Outlet> {
        lock(&self.outlets).iter().find(|outlet| outlet.pad.upcast_ref::<gst::Pad>() == pad).cloned()
    }

    /// Opens the camera and gives each pad that is linked its place there. Nothing streams yet.
    fn open(&self) -> Result<(), gst::StateChangeError> {
        self.try_open().map_err(|words| {
            self.close();
            gst::element_imp_error!(self, gst::ResourceError::OpenRead, ("{}", words));
            gst::StateChangeError
        })
    }

    fn try_open(&self) -> Result<(), String> {
        let settings = lock(&self.settings).clone();
        settings.check()?;
        let linked: Vec<_> =
            lock(&self.outlets).iter().filter(|outlet| outlet.pad.is_linked()).cloned().collect();
        if linked.is_empty() {
            return Err(
                "no pad is linked: link src, or ask for color, depth, infrared_1, infrared_2 or motion \
                        and link that"
                    .to_owned(),
            );
        }
        let weak = self.obj().downgrade();
        let report = move |report| {
            if let Some(element) = weak.upgrade() {
                tell(&element, report);
            }
        };
        let (controls, processing) = (settings.controls(), settings.processing());
        let reader = Reader::open(settings.request(), controls, processing, report);
        let reader = reader.map_err(|error| error.to_string())?;
        gst::info!(CAT, imp = self, "reading from {}", crate::reader::title(&reader.device()));
        *lock(&self.group) = Some(gst::GroupId::next());
        // Kept first, so that what fails now is cleaned up.
        let mut place = lock(&self.reader);
        let reader = place.insert(reader);
        linked.iter().try_for_each(|outlet| outlet.attach(reader, settings.stream.kind(), &processing))
    }

    fn set_playing(&self, playing: bool) {
        if let Some(reader) = &*lock(&self.reader) {
            reader.set_playing(playing);
        }
    }

    /// The lock is not held while the camera stops.
    fn close(&self) {
        for outlet in lock(&self.outlets).clone() {
            outlet.detach();
        }
        let reader = lock(&self.reader).take();
        drop(reader);
    }

    /// A pad was linked or unlinked while the element runs.
    fn follow_link(&self, pad: &gst::Pad) {
        let Some(outlet) = self.outlet_of(pad) else { return };
        // In any case: it may have been unlinked and linked again meanwhile.
        outlet.detach();
        if !pad.is_linked() {
            return;
        }
        let settings = lock(&self.settings).clone();
        let attached = match &*lock(&self.reader) {
            Some(reader) => outlet.attach(reader, settings.stream.kind(), &settings.processing()),
            None => return,
        };
        match attached {
            Ok(()) => {
                // What fails is told by the stream itself.
                let _ = outlet.stream.sync_state_with_parent();
            }
            Err(words) => gst::element_imp_error!(self, gst::ResourceError::Settings, ("{}", words)),
        }
    }
}

/// What pads want of the element.
impl super::RealSenseSrc {
    /// Not in the thread that links: it may be one that streams.
    pub(super) fn link_changed(&self, pad: &gst::GhostPad, linked: bool) {
        let running = lock(&self.imp().reader).is_some();
        if running && pad.is_linked() == linked {
            let pad = pad.clone();
            self.call_async(move |element| element.imp().follow_link(pad.upcast_ref()));
        }
    }

    /// The group of this run's streams.
    pub(super) fn group(&self) -> Option<gst::GroupId> {
        *lock(&self.imp().group)
    }
}

fn tell(element: &super::RealSenseSrc, report: Report) {
    match report {
        Report::Warning(words) => gst::element_warning!(element, gst::ResourceError::Settings, ("{words}")),
        Report::Info(words) => gst::element_info!(element, gst::ResourceError::Settings, ("{words}")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
