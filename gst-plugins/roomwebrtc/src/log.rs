//! The debug category of the plugin, for example `GST_DEBUG=roomwebrtc:4`.

use std::sync::LazyLock;

/// The category of all log messages of this plugin.
pub(crate) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "roomwebrtc",
        gst::DebugColorFlags::empty(),
        Some("Sending to and receiving from a room"),
    )
});
