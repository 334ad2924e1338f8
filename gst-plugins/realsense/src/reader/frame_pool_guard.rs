//! Works around a use-after-free in librealsense, by holding one frame of each stream.
//!
//! The frames of a stream come from a pool (`frame_archive`), which lives as long as one of its frames does. When a sensor
//! stops or a recording ends, the library flushes the pool. If another thread releases the last frame at that moment, the
//! pool is freed while it is being flushed (librealsense 2.56, `frame_archive::unpublish_frame` and `flush`). The frames
//! held here keep the pool alive until the flush is long over.

use crate::{
    camera::{Frame, StreamMode},
    sync::lock,
};
use std::sync::Mutex;

/// Holds a frame of each stream of the last two starts of the camera.
#[derive(Debug, Default)]
pub(super) struct FramePoolGuard(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// The start of the camera that the frames in `newer` belong to.
    epoch: u64,
    newer: Vec<(StreamMode, Frame)>,
    older: Vec<(StreamMode, Frame)>,
}

impl FramePoolGuard {
    /// Must be called with each frame before the frame is distributed.
    pub(super) fn hold(&self, frame: &Frame, mode: StreamMode, epoch: u64) {
        let mut held = lock(&self.0);
        if held.epoch != epoch {
            held.epoch = epoch;
            held.older = std::mem::take(&mut held.newer);
        }
        if held.newer.iter().all(|(known, _)| *known != mode)
            && let Ok(first) = frame.share()
        {
            first.keep();
            held.newer.push((mode, first));
        }
    }
}
