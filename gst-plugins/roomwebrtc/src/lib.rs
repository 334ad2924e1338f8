//! The plugin `roomwebrtc`.

mod certificate;
mod connection;
mod signaling;
