//! The handle by which one pad uses the camera: it selects modes and waits for frames, on the streaming thread of the pad.

use super::{
    OpenError,
    frame_queue::{FrameQueue, ReceivedFrame},
    open,
    shared::{Phase, Shared, State},
    syncer::Syncer,
};
use crate::{
    camera::{Device, StreamKind, StreamMode},
    depth::Processing,
    sync::lock,
    timeline::Timeline,
};
use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A camera that delivers no frame for this long has stalled.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no frame follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The pad is flushing, or the element shuts down.
    Flushing,
    /// The recording has ended.
    Ended,
    /// The camera failed; the text is for the user.
    Failed(String),
}

/// A pad's handle on the camera. Dropping it removes the queue of the pad.
pub(crate) struct Consumer {
    shared: Arc<Shared>,
    id: u64,
    kinds: Vec<StreamKind>,
}

impl Consumer {
    pub(super) fn new(shared: Arc<Shared>, kinds: &[StreamKind], in_sets: bool) -> Result<Self, OpenError> {
        let syncer = match kinds {
            [target, ..] if in_sets => Some(Syncer::new(*target)?),
            _ => None,
        };
        let queue = FrameQueue::new(kinds, syncer);
        let id = shared.change(|state| {
            let id = state.queues.last_key_value().map_or(0, |(last, _)| last + 1);
            state.queues.insert(id, queue);
            id
        });
        Ok(Self { shared, id, kinds: kinds.to_vec() })
    }

    /// The camera or recording.
    pub(crate) fn device(&self) -> Arc<Device> {
        self.shared.lock().device.clone()
    }

    /// The processing to apply to frames.
    pub(crate) fn processing(&self) -> Arc<Processing> {
        self.shared.lock().processing.clone()
    }

    /// Whether frames arrive in real time.
    pub(crate) fn is_live(&self) -> bool {
        self.shared.live
    }

    /// Calls `with` with the timeline that all pads share.
    pub(crate) fn with_timeline<T>(&self, with: impl FnOnce(&mut Timeline) -> T) -> T {
        with(&mut lock(&self.shared.timeline))
    }

    /// The modes of a stream that this pad can select. If another pad has selected one, only that one is left.
    pub(crate) fn modes(&self, kind: StreamKind) -> Vec<StreamMode> {
        let (device, selected) = {
            let state = self.shared.lock();
            (state.device.clone(), self.selected_by_others(&state, kind))
        };
        match selected {
            Some(mode) => vec![mode],
            // Modes that can't be read count as none; the negotiation then fails with a message.
            None => open::modes(&device)
                .unwrap_or_default()
                .into_iter()
                .filter(|mode| mode.kind == kind)
                .collect(),
        }
    }

    fn selected_by_others(&self, state: &State, kind: StreamKind) -> Option<StreamMode> {
        let others = state.queues.iter().filter(|(id, _)| **id != self.id);
        others.flat_map(|(_, queue)| &queue.modes).find(|mode| mode.kind == kind).copied()
    }

    /// Waits until another pad with this stream has selected its mode. Returns false if this pad is flushing instead.
    pub(crate) fn wait_for_mode(&self, kind: StreamKind) -> bool {
        let mut state = self.shared.lock();
        loop {
            let flushing = state.queues.get(&self.id).is_none_or(|queue| queue.flushing);
            if state.closing || flushing {
                return false;
            }
            let undecided = state.queues.iter().any(|(id, queue)| {
                *id != self.id
                    && queue.syncer.is_none()
                    && queue.kinds.contains(&kind)
                    && queue.modes.is_empty()
            });
            if !undecided {
                return true;
            }
            state = self.shared.frames_changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Selects the modes of the streams.
    pub(crate) fn select_modes(&self, modes: Vec<StreamMode>) {
        self.shared.change(|state| {
            if let Some(queue) = state.queues.get_mut(&self.id).filter(|queue| queue.modes != modes) {
                queue.modes = modes;
                queue.clear();
            }
        });
    }

    /// Waits for the next frame.
    pub(crate) fn next(&self) -> Result<ReceivedFrame, Interrupt> {
        let mut state = self.request_frames();
        loop {
            let State { queues, closing, phase, playing, device, .. } = &mut *state;
            let Some(queue) = queues.get_mut(&self.id).filter(|queue| !queue.flushing && !*closing) else {
                return Err(Interrupt::Flushing);
            };
            if let Some(received) = queue.pop() {
                drop(state);
                if !self.shared.live {
                    self.shared.space_freed.notify_all();
                }
                return Ok(received);
            }
            if queue.is_ended() {
                return Err(Interrupt::Ended);
            }
            let mut timeout = None;
            match phase {
                Phase::Ended => return Err(Interrupt::Ended),
                Phase::Failed(message) => return Err(Interrupt::Failed(message.to_string())),
                // The end of a recording is reported, but a camera that stalls is not.
                Phase::Running if !self.shared.request.is_recording() && *playing => {
                    let left = FRAME_TIMEOUT.saturating_sub(queue.last_frame.elapsed());
                    if left.is_zero() {
                        return Err(Interrupt::Failed(self.stalled(device)));
                    }
                    timeout = Some(left);
                }
                Phase::Waiting | Phase::Searching | Phase::Running => {}
            }
            state = self.wait(state, timeout);
        }
    }

    fn request_frames(&self) -> MutexGuard<'_, State> {
        let state = self.shared.lock();
        if state.queues.get(&self.id).is_some_and(|queue| queue.requested) {
            return state;
        }
        drop(state);
        self.shared.change(|state| {
            if let Some(queue) = state.queues.get_mut(&self.id) {
                queue.requested = true;
            }
        });
        self.shared.lock()
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, timeout: Option<Duration>) -> MutexGuard<'a, State> {
        let changed = &self.shared.frames_changed;
        match timeout {
            None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    fn stalled(&self, device: &Device) -> String {
        let streams: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        format!(
            "no frame of {} for {} s from {}: check the cable and that the port provides enough power and speed \
             (USB 3), then start again",
            streams.join(" and "),
            FRAME_TIMEOUT.as_secs(),
            open::title(device)
        )
    }

    /// Starts flushing, which interrupts [`Consumer::next`], or stops flushing.
    pub(crate) fn set_flushing(&self, flushing: bool) {
        let live = self.shared.live;
        self.shared.change(|state| {
            if let Some(queue) = state.queues.get_mut(&self.id) {
                queue.flushing = flushing;
                queue.last_frame = Instant::now();
                if live {
                    // Frames that arrived in the meantime are too late.
                    queue.clear();
                }
            }
        });
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.change(|state| state.queues.remove(&self.id));
    }
}
