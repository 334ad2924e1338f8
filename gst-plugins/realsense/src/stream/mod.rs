//! One stream of the camera as a source: the `GstPushSrc` that is inside `realsensesrc` for each of its pads.
//!
//! [`offer`] says what the camera has as caps and picks a mode, [`picture`] makes buffers of frames ([`repack`] the most
//! usual ones), [`meta`] writes down what is known of them.

use crate::{
    camera::{Shape, StreamKind},
    depth::Processing,
    reader::Member,
};
use gst::{glib, subclass::prelude::*};
use std::sync::Arc;

mod imp;
mod meta;
mod offer;
mod picture;
mod repack;

pub(crate) use meta::register as register_meta;
pub(crate) use offer::{MOTION, all_formats};

glib::wrapper! {
    /// A stream of a RealSense camera.
    pub struct RealSenseStream(ObjectSubclass<imp::RealSenseStream>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object;
}

/// What a camera with these modes gives of this stream, as caps.
pub(crate) fn caps_of(kind: StreamKind, shapes: &[Shape]) -> gst::Caps {
    let of = |kind| shapes.iter().filter(|shape| shape.kind == kind).copied().collect();
    offer::Offer::new(Which::Video(kind), &Processing::default(), of).caps()
}

/// Which stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Video(StreamKind),
    /// Gyroscope and accelerometer.
    Motion,
}

impl Which {
    /// The name that users see.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Video(kind) => kind.name(),
            Self::Motion => "motion",
        }
    }
}

impl RealSenseStream {
    /// A stream that is attached to no camera.
    pub(crate) fn new() -> Self {
        glib::Object::new()
    }

    /// The camera to stream from, before the next start.
    pub(crate) fn attach(&self, which: Which, member: Member) {
        self.imp().attach(which, Arc::new(member));
    }

    /// Lets go of the camera.
    pub(crate) fn detach(&self) {
        self.imp().detach();
    }
}
