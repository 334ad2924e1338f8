//! The frames that wait for one pad, and the modes that the pad has selected. Filled by [`super::shared`] on
//! librealsense's threads, emptied by [`super::consumer`] on the streaming thread of the pad.

use super::syncer::Syncer;
use crate::camera::{Frame, StreamKind, StreamMode};
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// Frames that a queue of video holds.
const VIDEO_LIMIT: usize = 4;
/// Samples that a queue of motion holds, because they arrive about ten times as often.
const MOTION_LIMIT: usize = 64;

/// A frame, and the circumstances of its arrival.
#[derive(Debug)]
pub(crate) struct ReceivedFrame {
    pub(crate) frame: Frame,
    pub(crate) received_at: Instant,
    /// The start of the camera that the frame belongs to.
    pub(crate) epoch: u64,
    /// The queue dropped frames before this one.
    pub(crate) after_loss: bool,
}

/// The queue of one pad.
#[expect(clippy::struct_excessive_bools, reason = "the flags are independent of each other")]
pub(super) struct FrameQueue {
    pub(super) kinds: Vec<StreamKind>,
    /// The selected mode of each stream. Empty before the pad has negotiated.
    pub(super) modes: Vec<StreamMode>,
    /// The pad has requested its first frame.
    pub(super) requested: bool,
    pub(super) flushing: bool,
    frames: VecDeque<ReceivedFrame>,
    /// The size of the frames, in bytes.
    bytes: usize,
    /// The stream has been ended for the benefit of the others, which could not be held back any longer.
    ended: bool,
    lost: bool,
    /// When the last frame arrived, or when the timeout for the next one was restarted.
    pub(super) last_frame: Instant,
    /// Combines the frames of two streams, for alignment.
    pub(super) syncer: Option<Arc<Syncer>>,
}

impl FrameQueue {
    pub(super) fn new(kinds: &[StreamKind], syncer: Option<Syncer>) -> Self {
        Self {
            kinds: kinds.to_vec(),
            modes: Vec::new(),
            requested: false,
            flushing: false,
            frames: VecDeque::new(),
            bytes: 0,
            ended: false,
            lost: false,
            last_frame: Instant::now(),
            syncer: syncer.map(Arc::new),
        }
    }

    /// Whether frames of this mode belong into this queue now.
    pub(super) fn accepts(&self, mode: StreamMode) -> bool {
        // The rate is ignored, because recordings may state a wrong one.
        let same = |selected: &StreamMode| StreamMode { rate: mode.rate, ..*selected } == mode;
        self.requested && !self.flushing && self.modes.iter().any(same)
    }

    fn limit(&self) -> usize {
        if self.kinds.contains(&StreamKind::Gyro) || self.kinds.contains(&StreamKind::Accel) {
            MOTION_LIMIT
        } else {
            VIDEO_LIMIT
        }
    }

    pub(super) fn has_space(&self) -> bool {
        self.frames.len() < self.limit() || self.flushing
    }

    /// The size of the frames in the queue, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops the frames, because they belong to an earlier start of the camera or an earlier mode.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        (self.bytes, self.ended) = (0, false);
    }

    /// Whether the pad waits for a frame and has none.
    pub(super) fn is_starved(&self) -> bool {
        self.requested && !self.flushing && !self.ended && self.frames.is_empty()
    }

    /// Ends the stream of the pad.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The name of the stream that leaves the pad.
    pub(super) fn name(&self) -> &'static str {
        self.kinds.first().map_or("", |kind| kind.name())
    }

    /// Adds a frame. A live queue that is full drops its oldest frame.
    pub(super) fn push(&mut self, frame: Frame, received_at: Instant, epoch: u64, live: bool) {
        self.last_frame = received_at;
        if self.ended {
            return;
        }
        if live && self.frames.len() >= self.limit() {
            self.pop();
            self.lost = true;
        }
        self.bytes += size_of_frame(&frame);
        let after_loss = std::mem::take(&mut self.lost);
        self.frames.push_back(ReceivedFrame { frame, received_at, epoch, after_loss });
    }

    pub(super) fn pop(&mut self) -> Option<ReceivedFrame> {
        let received = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size_of_frame(&received.frame));
        Some(received)
    }
}

/// The size of a frame in bytes. Of a frameset only the first frame counts, because other sets share the second one.
fn size_of_frame(frame: &Frame) -> usize {
    frame.data().map_or(0, <[u8]>::len)
}
