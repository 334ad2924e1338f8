//! `roomwebrtcsrc`: receives the streams of a sender in a room.
//!
//! [`imp`] is the element. Everything that happens around it (signaling, webrtcbin, timers) is told to one thread, the
//! [`control`] thread, which alone owns the [`session`] with the sender. What a session receives it hands over, access
//! unit by access unit, to an [`output`], a pad that outlives sessions.

use gst::{glib, prelude::*};

mod control;
mod imp;
mod link;
mod message;
mod offer;
mod output;
mod outputs;
mod senders;
mod session;
mod settings;
mod stats;
mod stream;
mod timeline;
mod uri;

glib::wrapper! {
    /// The element `roomwebrtcsrc`.
    pub struct RoomWebRtcSrc(ObjectSubclass<imp::RoomWebRtcSrc>)
        @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy, gst::URIHandler;
}

/// Makes the element known to GStreamer.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "roomwebrtcsrc", gst::Rank::PRIMARY, RoomWebRtcSrc::static_type())
}
