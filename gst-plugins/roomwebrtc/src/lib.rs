//! The plugin `roomwebrtc`.
