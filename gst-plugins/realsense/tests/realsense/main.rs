//! realsensesrc on the real librealsense, with cameras that exist in software alone and recordings of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod cycles;
mod errors;
mod live;
mod provider;
mod recordings;
