//! The pad templates of the element, and each pad with the stream behind it.

use super::RealSenseSrc;
use crate::{
    camera::{PixelFormat, StreamKind, StreamMode},
    depth::Processing,
    reader::Reader,
    stream::{MOTION, PadStream, RealSenseStream, all_formats},
};
use gst::{glib, prelude::*};
use gst_video::VideoFormat;
use std::sync::LazyLock;

/// The templates: `src`, which always exists, and one for each stream that can be requested.
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

/// A pad and the stream behind it.
#[derive(Debug, Clone)]
pub(super) struct SourcePad {
    /// `None` for the pad `src`, whose stream the property `stream` selects.
    pad_stream: Option<PadStream>,
    pub(super) pad: gst::GhostPad,
    pub(super) stream: RealSenseStream,
}

impl SourcePad {
    /// Creates a pad, which the caller adds to the element. Nothing streams before the stream is attached.
    pub(super) fn new(
        element: &RealSenseSrc,
        template: &gst::PadTemplate,
        name: &str,
        pad_stream: Option<PadStream>,
    ) -> Result<Self, glib::BoolError> {
        let stream = RealSenseStream::new();
        // The stream does not follow the state of the element unless its pad is linked.
        stream.set_locked_state(true);
        element.add(&stream)?;
        let target = stream.static_pad("src").ok_or_else(|| glib::bool_error!("the stream has no pad"))?;
        let pad = gst::GhostPad::builder_from_template_with_target(template, &target)?.name(name).build();
        let source_pad = Self { pad_stream, pad, stream };
        source_pad.group_streams(element, &target);
        for (signal, linked) in [("linked", true), ("unlinked", false)] {
            let (element, pad) = (element.downgrade(), source_pad.pad.downgrade());
            source_pad.pad.connect(signal, false, move |_| {
                if let (Some(element), Some(pad)) = (element.upgrade(), pad.upgrade()) {
                    element.link_changed(&pad, linked);
                }
                None
            });
        }
        Ok(source_pad)
    }

    /// Gives all streams of one camera the same group id.
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

    /// Attaches the stream to the camera. From now on it follows the state of the element.
    pub(super) fn attach(
        &self,
        reader: &Reader,
        stream: StreamKind,
        processing: &Processing,
    ) -> Result<(), String> {
        let pad_stream = self.pad_stream.unwrap_or(PadStream::Video(stream));
        let modes = reader.modes().map_err(|error| error.to_string())?;
        let kinds = kinds(pad_stream, processing, &modes).map_err(|lacking| {
            let mut available: Vec<_> = modes.iter().map(|mode| mode.kind.name()).collect();
            available.dedup();
            let title = crate::reader::title(&reader.device());
            format!("{title} has no {lacking}; it has {}", available.join(", "))
        })?;
        let synced = pad_stream != PadStream::Motion && kinds.len() > 1;
        let consumer = reader.consumer(&kinds, synced).map_err(|error| error.to_string())?;
        self.stream.attach(pad_stream, consumer);
        self.stream.set_locked_state(false);
        Ok(())
    }

    /// Stops the stream and detaches it from the camera.
    pub(super) fn detach(&self) {
        self.stream.set_locked_state(true);
        // Fails only if the stream is stopping already.
        let _ = self.stream.set_state(gst::State::Null);
        self.stream.detach();
    }
}

/// The streams of the camera that the pad needs, or the name of a stream that the camera lacks.
fn kinds(
    pad_stream: PadStream,
    processing: &Processing,
    modes: &[StreamMode],
) -> Result<Vec<StreamKind>, &'static str> {
    let has = |kind: &StreamKind| modes.iter().any(|mode| mode.kind == *kind);
    match pad_stream {
        PadStream::Motion => {
            let motion = |mode: &StreamMode| mode.format == PixelFormat::Xyz32f;
            if !modes.iter().any(motion) {
                return Err("motion");
            }
            Ok([StreamKind::Accel, StreamKind::Gyro].into_iter().filter(has).collect())
        }
        PadStream::Video(kind) => {
            let kinds: Vec<_> = std::iter::once(kind).chain(processing.reference(kind)).collect();
            match kinds.iter().find(|kind| !has(kind)) {
                Some(lacking) => Err(lacking.name()),
                None => Ok(kinds),
            }
        }
    }
}
