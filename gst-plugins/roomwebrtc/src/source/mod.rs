//! `roomwebrtcsrc`: receives the streams of one sender in a room.
//!
//! - [`conductor`]: the thread that owns the media session and handles signaling events, session events and time.
//! - [`senders`]: selects the sender, a value.
//! - [`signaling_connection`]: the connection to the signaling server, which can leave the room and rejoin it.
//! - [`session`]: the media session with the sender; [`offer`] selects the streams and codecs of its offer.
//! - [`stream`]: one stream of a session, from RTP packets to access units.
//! - [`outputs`]: which stream leaves which pad: names new pads, exposes them, and ends replaced ones.
//! - [`output`]: one pad, which outlives sessions; [`timeline`], a value, maps timestamps over gaps and decides what is
//!   dropped.
//! - [`imp`]: the element; [`settings`], [`published`], [`uri`]: its properties and its URI; [`message`], [`stats`]:
//!   its bus messages and statistics.

use gst::{glib, prelude::*};

mod conductor;
mod imp;
mod message;
mod offer;
mod output;
mod outputs;
mod published;
mod senders;
mod session;
mod settings;
mod signaling_connection;
mod stats;
mod stream;
mod timeline;
mod uri;

glib::wrapper! {
    /// The element `roomwebrtcsrc`.
    pub struct RoomWebRtcSrc(ObjectSubclass<imp::RoomWebRtcSrc>)
        @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy, gst::URIHandler;
}

/// Registers the element.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "roomwebrtcsrc", gst::Rank::PRIMARY, RoomWebRtcSrc::static_type())
}
