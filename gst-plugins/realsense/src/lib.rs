//! The plugin `realsense`: `realsensesrc` captures the streams of RealSense depth cameras.
//!
//! - `source`: the element, its properties and its pads.
//! - `reader`: one camera or recording, which all pads of an element share; also finds a camera again that was
//!   unplugged.
//! - `stream`: the source element inside each pad, which negotiates caps and makes buffers of frames.
//! - `timeline`: maps the timestamps of frames to PTS.
//! - `depth`: filters of depth, alignment of depth to color, colors of depth.
//! - `camera`: the safe interface to librealsense, and the only module with `unsafe` code.
//! - `provider`: the device provider, which lists connected cameras.

#![allow(missing_docs, reason = "plugin_define! makes public items that can't be documented")]

mod camera;
mod depth;
mod provider;
mod reader;
mod source;
mod stream;
mod sync;
mod timeline;

#[cfg(feature = "software-device")]
pub use camera::software;

use gst::glib;
use std::sync::LazyLock;

/// The debug category of this plugin: `GST_DEBUG=realsensesrc:6`.
pub(crate) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new("realsensesrc", gst::DebugColorFlags::empty(), Some("RealSense cameras"))
});

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    stream::register_meta();
    source::register(plugin)?;
    provider::register(plugin)
}

gst::plugin_define!(
    realsense,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "MPL",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "room-signaling"
);
