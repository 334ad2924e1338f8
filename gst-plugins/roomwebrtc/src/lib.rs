//! The plugin `roomwebrtc`: `roomwebrtcsink` sends to a room, `roomwebrtcsrc` receives from one.

#![allow(missing_docs, reason = "plugin_define! makes public items that can't be documented")]

mod codec;
mod guard;
mod h264_repair;
mod log;
mod peer;
mod property;
mod sdp;
mod signaling;
mod sink;
mod source;
mod stream_key;
mod sync;
mod time;

use gst::glib;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    sink::register(plugin)?;
    source::register(plugin)
}

gst::plugin_define!(
    roomwebrtc,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    env!("CARGO_PKG_VERSION"),
    "MPL",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    "room-signaling"
);
