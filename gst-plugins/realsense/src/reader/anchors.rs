//! Keeps the library's store of frames alive while frames go back to it.
//!
//! The frames of a stream come from a store, which lives as long as a frame of it does. When a sensor stops or a recording
//! ends, the library empties the list of those that came back; and if the last one comes back at that very moment, in
//! another thread, the store is freed under that thread (librealsense 2.56, `frame_archive::unpublish_frame` beside
//! `flush`). One frame of each stream, held until that is long over, keeps the store there.

use crate::camera::{Frame, Shape};
use std::sync::{Mutex, PoisonError};

/// A frame of each stream of the camera's last two runs.
#[derive(Debug, Default)]
pub(super) struct Anchors(Mutex<Runs>);

#[derive(Debug, Default)]
struct Runs {
    /// Which start of the camera the newer ones are of.
    epoch: u64,
    newer: Vec<(Shape, Frame)>,
    older: Vec<(Shape, Frame)>,
}

impl Anchors {
    /// To be called with each frame before anybody else may have it.
    pub(super) fn hold(&self, frame: &Frame, shape: Shape, epoch: u64) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.epoch != epoch {
            runs.epoch = epoch;
            runs.older = std::mem::take(&mut runs.newer);
        }
        if runs.newer.iter().all(|(known, _)| *known != shape)
            && let Ok(anchor) = frame.share()
        {
            anchor.keep();
            runs.newer.push((shape, anchor));
        }
    }
}
