//! Tests of realsensesrc with the real librealsense, on software cameras and their recordings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod cycles;
mod errors;
mod live;
mod provider;
mod recordings;
