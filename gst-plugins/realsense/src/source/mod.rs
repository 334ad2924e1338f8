//! `realsensesrc`: the streams of a RealSense camera, or of a recording of one.
//!
//! [`imp`] is the element, a bin with one [`crate::stream`] for each of its pads; they share one [`crate::reader`].

use gst::{glib, prelude::*};

mod imp;
mod pads;
mod settings;

glib::wrapper! {
    /// The element `realsensesrc`.
    pub struct RealSenseSrc(ObjectSubclass<imp::RealSenseSrc>)
        @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

/// Makes the element known to GStreamer.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    settings::mark_types();
    gst::Element::register(Some(plugin), "realsensesrc", gst::Rank::PRIMARY, RealSenseSrc::static_type())
}
