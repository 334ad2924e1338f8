//! The pads of the element, each with its stream inside.

use super::RealSenseSrc;
use crate::{
    camera::{PixelFormat, Shape, StreamKind},
    depth::Processing,
    reader::Reader,
    stream::{MOTION, RealSenseStream, Which, all_formats},
};
use gst::{glib, prelude::*};
use gst_video::VideoFormat;
use std::sync::LazyLock;

/// The templates: `src`, which is always there, and one for each stream that can be asked for.
pub(super) fn templates() -> &'static [gst::PadTemplate] {
    static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
        use gst::PadPresence::{Always, Request};
        let video =
            |formats: Vec<VideoFormat>| gst_video::VideoCapsBuilder::new().format_list(formats).build();
        let all: Vec<_> = all_formats().collect();
        let no_16_bits: Vec<_> =
            all.iter().copied().filter(|format| *format != VideoFormat::Gray16Le).collect();
        [
            ("src", Always, video(all.clone())),
            ("color", Request, video(no_16_bits)),
            ("depth", Request, video(all.clone())),
            ("infrared_%u", Request, video(all)),
            ("motion", Request, gst::Caps::new_empty_simple(MOTION)),
        ]
        .into_iter()
        .filter_map(|(name, presence, caps)| {
            gst::PadTemplate::new(name, gst::PadDirection::Src, presence, &caps).ok()
        })
        .collect()
    });
    &TEMPLATES
}

/// A pad, and the stream that comes out of it.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    /// `None` for the pad `src`, which the property `stream` decides about.
    which: Option<Which>,
    pub(super) pad: gst::GhostPad,
    pub(super) stream: RealSenseStream,
}

impl Outlet {
    /// A new pad of this template and name, which the caller adds to the element. Nothing streams until it is started.
    pub(super) fn new(
        element: &RealSenseSrc,
        template: &gst::PadTemplate,
        name: &str,
        which: Option<Which>,
    ) -> Result<Self, glib::BoolError> {
        let stream = RealSenseStream::new();
        // The element's state changes pass it by: it streams only while its pad is linked.
        stream.set_locked_state(true);
        element.add(&stream)?;
        let target = stream.static_pad("src").ok_or_else(|| glib::bool_error!("a stream without a pad"))?;
        let pad = gst::GhostPad::builder_from_template_with_target(template, &target)?.name(name).build();
        let outlet = Self { which, pad, stream };
        outlet.group_streams(element, &target);
        for (signal, linked) in [("linked", true), ("unlinked", false)] {
            let (element, pad) = (element.downgrade(), outlet.pad.downgrade());
            outlet.pad.connect(signal, false, move |_| {
                if let (Some(element), Some(pad)) = (element.upgrade(), pad.upgrade()) {
                    element.link_changed(&pad, linked);
                }
                None
            });
        }
        Ok(outlet)
    }

    /// Streams of one camera say so by their group.
    fn group_streams(&self, element: &RealSenseSrc, target: &gst::Pad) {
        let (element, name) = (element.downgrade(), self.pad.name());
        target.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
            let start = info.event().filter(|event| event.type_() == gst::EventType::StreamStart);
            if let (Some(event), Some(element)) = (start, element.upgrade())
                && let Some(group) = element.group()
            {
                let id = pad.create_stream_id(&element, Some(name.as_str()));
                let event =
                    gst::event::StreamStart::builder(&id).group_id(group).seqnum(event.seqnum()).build();
                info.data = Some(gst::PadProbeData::Event(event));
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Gives the stream its place at the camera. It can follow the element's state from now on.
    pub(super) fn attach(
        &self,
        reader: &Reader,
        stream: StreamKind,
        processing: &Processing,
    ) -> Result<(), String> {
        let which = self.which.unwrap_or(Which::Video(stream));
        let shapes = reader.shapes().map_err(|error| error.to_string())?;
        let kinds = kinds(which, processing, &shapes).map_err(|lacking| {
            let mut there: Vec<_> = shapes.iter().map(|shape| shape.kind.name()).collect();
            there.dedup();
            let title = crate::reader::title(&reader.device());
            format!("{title} has no {lacking}: there are {}", there.join(", "))
        })?;
        let together = which != Which::Motion && kinds.len() > 1;
        let member = reader.member(&kinds, together).map_err(|error| error.to_string())?;
        self.stream.attach(which, member);
        self.stream.set_locked_state(false);
        Ok(())
    }

    /// Stops the stream and gives its place up.
    pub(super) fn detach(&self) {
        self.stream.set_locked_state(true);
        // Fails for nothing that this is about: it stops all the same.
        let _ = self.stream.set_state(gst::State::Null);
        self.stream.detach();
    }
}

/// The streams of the camera that are needed; the name of the one that it lacks.
fn kinds(which: Which, processing: &Processing, shapes: &[Shape]) -> Result<Vec<StreamKind>, &'static str> {
    let has = |kind: &StreamKind| shapes.iter().any(|shape| shape.kind == *kind);
    match which {
        Which::Motion => {
            let motion = |shape: &Shape| shape.format == PixelFormat::Xyz32f;
            if !shapes.iter().any(motion) {
                return Err("motion");
            }
            Ok([StreamKind::Accel, StreamKind::Gyro].into_iter().filter(has).collect())
        }
        Which::Video(kind) => {
            let kinds: Vec<_> = std::iter::once(kind).chain(processing.reference(kind)).collect();
            match kinds.iter().find(|kind| !has(kind)) {
                Some(lacking) => Err(lacking.name()),
                None => Ok(kinds),
            }
        }
    }
}
