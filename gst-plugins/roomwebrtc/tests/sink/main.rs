//! `roomwebrtcsink` in a pipeline, one file for each topic: formats, encoders, pacing, pads, the room, receivers that join late.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod encoders;
mod formats;
mod late_receivers;
mod pacing;
mod pads;
mod room;
