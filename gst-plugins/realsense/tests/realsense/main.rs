//! realsensesrc on the real librealsense, with cameras that exist in software alone and recordings of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "tests to come use it")]

mod bed;
mod recordings;
