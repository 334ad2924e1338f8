//! One stream of the camera: the `GstPushSrc` behind each pad of `realsensesrc`.
//!
//! - [`imp`] negotiates caps, answers latency queries and timestamps buffers.
//! - [`negotiation`] lists the modes of the camera as caps and selects one that downstream accepts.
//! - [`frame_converter`] makes buffers of frames; [`yuyv_to_i420`] is its fast path.
//! - [`meta`] attaches the metadata of a frame to its buffer.

use crate::{
    camera::{StreamKind, StreamMode},
    depth::Processing,
    reader::Consumer,
};
use gst::{glib, subclass::prelude::*};
use std::sync::Arc;

mod frame_converter;
mod imp;
mod meta;
mod negotiation;
mod yuyv_to_i420;

pub(crate) use meta::register as register_meta;
pub(crate) use negotiation::{MOTION, all_formats};

glib::wrapper! {
    /// The source element of one stream.
    pub struct RealSenseStream(ObjectSubclass<imp::RealSenseStream>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object;
}

/// The caps of this stream of a camera with these modes.
pub(crate) fn caps_of(kind: StreamKind, modes: &[StreamMode]) -> gst::Caps {
    let of = |kind| modes.iter().filter(|mode| mode.kind == kind).copied().collect();
    negotiation::Capabilities::new(PadStream::Video(kind), &Processing::default(), of).caps()
}

/// The stream that leaves a pad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PadStream {
    Video(StreamKind),
    /// The samples of the gyroscope and the accelerometer.
    Motion,
}

impl PadStream {
    /// The name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Video(kind) => kind.name(),
            Self::Motion => "motion",
        }
    }
}

impl RealSenseStream {
    /// Creates a stream that is not attached to a camera.
    pub(crate) fn new() -> Self {
        glib::Object::new()
    }

    /// Attaches the stream to a camera, for the next start.
    pub(crate) fn attach(&self, pad_stream: PadStream, consumer: Consumer) {
        self.imp().attach(pad_stream, Arc::new(consumer));
    }

    /// Detaches the stream from the camera.
    pub(crate) fn detach(&self) {
        self.imp().detach();
    }
}
