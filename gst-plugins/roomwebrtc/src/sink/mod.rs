//! `roomwebrtcsink`: sends one encoded stream for each of its pads to every receiver in a room.
//!
//! | task | file |
//! | --- | --- |
//! | add a property | `settings.rs` (`../signaling/settings.rs` for both elements) |
//! | add a signal or an action | `imp.rs` |
//! | configure another encoder for low latency | `tuning.rs` |
//! | authorize receivers, limit their number, retry | `roster/` |
//! | limit the rate of keyframe requests | `keyframes.rs` |
//! | decide at which access units receivers start | `bitstream.rs`, `refresh.rs` |
//! | convert timestamps | `timing.rs`, which uses `../time/` |
//! | drop frames for a slow receiver | `fanout.rs` |
//! | adapt to the link of one receiver | `session/` |

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
mod sample_handler;
mod session;
mod settings;
mod sink_pad;
mod timestamps;
mod timing;
mod tuning;
mod upstream;
mod upstream_monitor;

use gst::{glib, prelude::*};

glib::wrapper! {
    /// The element `roomwebrtcsink`.
    pub struct RoomWebRtcSink(ObjectSubclass<imp::RoomWebRtcSink>) @extends gst::Bin, gst::Element, gst::Object;
}

/// Registers the element with `plugin`.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(Some(plugin), "roomwebrtcsink", gst::Rank::NONE, RoomWebRtcSink::static_type())
}
