//! The plugin `realsense`: `realsensesrc` gives the streams of RealSense depth cameras.

#![allow(missing_docs, reason = "plugin_define! makes public items that can't be documented")]

mod camera;

#[cfg(feature = "software-device")]
pub use camera::software;
