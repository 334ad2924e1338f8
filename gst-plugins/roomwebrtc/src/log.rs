//! The debug category of the plugin: `GST_DEBUG=roomwebrtc:4`.

use std::sync::LazyLock;

/// The category that every file of this plugin logs to.
pub(crate) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "roomwebrtc",
        gst::DebugColorFlags::empty(),
        Some("Sending to and receiving from a room"),
    )
});
