//! The plugin `realsense`: `realsensesrc` gives the streams of RealSense depth cameras.

#![allow(missing_docs, reason = "plugin_define! makes public items that can't be documented")]

mod camera;
mod depth;
mod provider;
mod reader;
mod source;
mod stream;
mod timeline;

#[cfg(feature = "software-device")]
pub use camera::software;

use gst::glib;
use std::sync::LazyLock;

/// The debug category of all of this plugin.
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
