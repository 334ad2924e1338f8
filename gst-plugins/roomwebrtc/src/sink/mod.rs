//! `roomwebrtcsink`: sends one encoded stream for each of its pads to every receiver in a room.

mod bitstream;
mod caps;
mod command_sender;
mod conductor;
mod fanout;
mod imp;
mod inner_server;
mod keyframes;
mod ports;
mod published;
mod refresh;
mod reorder;
mod roster;
mod session;
mod settings;
mod sink_pad;
mod timestamps;
mod timing;
mod tuning;
mod upstream;

use gst::{glib, prelude::*};

glib::wrapper! {
    /// The element `roomwebrtcsink`.
    pub struct RoomWebRtcSink(ObjectSubclass<imp::RoomWebRtcSink>) @extends gst::Bin, gst::Element, gst::Object;
}

/// Registers the element with `plugin`.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "roomwebrtcsink", gst::Rank::NONE, RoomWebRtcSink::static_type())
}
