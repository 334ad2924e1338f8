//! `realsensesrc`: a bin with one [`crate::stream`] for each of its pads. All streams share one [`crate::reader`].
//!
//! - [`imp`]: state changes and requested pads.
//! - [`pads`]: the pad templates, and the stream behind each pad.
//! - [`settings`]: the properties, with their defaults and blurbs.

use gst::{glib, prelude::*};

mod imp;
mod pads;
mod settings;

glib::wrapper! {
    /// The element `realsensesrc`.
    pub struct RealSenseSrc(ObjectSubclass<imp::RealSenseSrc>)
        @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

/// Registers the element.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    settings::mark_types();
    gst::Element::register(Some(plugin), "realsensesrc", gst::Rank::PRIMARY, RealSenseSrc::static_type())
}
