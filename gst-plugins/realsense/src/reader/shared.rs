//! The state that the camera thread, librealsense's threads and the pads share, and the distribution of frames.
//!
//! [`Shared::deliver`] runs on a thread of librealsense for each frame and puts the frame into the [`FrameQueue`]s of the
//! pads that selected its mode. A live queue that is full drops its oldest frame. With `real-time=false` the thread waits
//! for space instead, which holds back the recording.

use super::{
    Controls, Report, Request,
    frame_pool_guard::FramePoolGuard,
    frame_queue::FrameQueue,
    syncer::{Arrival, Syncer},
};
use crate::{
    camera::{Device, Frame, StreamMode},
    depth::Processing,
    sync::lock,
    timeline::Timeline,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The bytes that all queues of a recording with `real-time=false` may hold together while another pad waits for a frame.
/// A stream of a recording may pause or end before the others, and a muxer downstream accepts no frame of the others in
/// the meantime.
const MAX_HELD_BYTES: usize = 256 << 20;

/// The state that all threads around one camera share.
pub(super) struct Shared {
    pub(super) request: Request,
    pub(super) live: bool,
    pub(super) timeline: Mutex<Timeline>,
    pub(super) report: Box<dyn Fn(Report) + Send + Sync>,
    state: Mutex<State>,
    /// Wakes the camera thread.
    state_changed: Condvar,
    /// Wakes pads: a frame has arrived, or none will.
    pub(super) frames_changed: Condvar,
    /// Wakes librealsense's threads: a pad has removed a frame from its queue.
    pub(super) space_freed: Condvar,
    /// The last field, because it must be dropped after the device.
    pool_guard: FramePoolGuard,
}

/// The part that changes.
pub(super) struct State {
    pub(super) device: Arc<Device>,
    pub(super) queues: BTreeMap<u64, FrameQueue>,
    pub(super) phase: Phase,
    /// Counts the starts of the camera. Frames of an earlier start are discarded.
    pub(super) epoch: u64,
    pub(super) playing: bool,
    pub(super) closing: bool,
    /// librealsense has reported that the device was unplugged.
    pub(super) unplugged: bool,
    /// The property `reconnect`, if it was set after the camera was opened.
    pub(super) reconnect: Option<bool>,
    pub(super) controls: Controls,
    pub(super) processing: Arc<Processing>,
    /// Warnings for the user, which the camera thread reports.
    pub(super) warnings: Vec<String>,
}

/// What the camera does.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// The camera does not stream until all pads have selected a mode and requested a frame.
    Waiting,
    Running,
    /// The recording has ended.
    Ended,
    /// The camera was unplugged, and the camera thread searches for it.
    Searching,
    /// The camera failed for this reason.
    Failed(Arc<str>),
}

impl State {
    pub(super) fn new(device: Arc<Device>, controls: Controls, processing: Processing) -> Self {
        Self {
            device,
            queues: BTreeMap::new(),
            phase: Phase::Waiting,
            epoch: 0,
            playing: false,
            closing: false,
            unplugged: false,
            reconnect: None,
            controls,
            processing: Arc::new(processing),
            warnings: Vec::new(),
        }
    }

    /// The modes that the pads which requested frames have selected.
    pub(super) fn requested_modes(&self) -> BTreeSet<StreamMode> {
        let requesting = self.queues.values().filter(|queue| queue.requested);
        requesting.flat_map(|queue| queue.modes.iter().copied()).collect()
    }

    /// Restarts the time within which each pad must receive a frame.
    pub(super) fn restart_frame_timeouts(&mut self) {
        let now = Instant::now();
        self.queues.values_mut().for_each(|queue| queue.last_frame = now);
    }
}

impl Shared {
    pub(super) fn new(request: Request, state: State, report: Box<dyn Fn(Report) + Send + Sync>) -> Self {
        let live = request.is_live();
        Self {
            request,
            live,
            timeline: Mutex::new(Timeline::new(live)),
            report,
            state: Mutex::new(state),
            state_changed: Condvar::new(),
            frames_changed: Condvar::new(),
            space_freed: Condvar::new(),
            pool_guard: FramePoolGuard::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes the state and wakes all threads that may wait for the change.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.state_changed.notify_all();
        self.frames_changed.notify_all();
        self.space_freed.notify_all();
        result
    }

    /// Waits for a change, on the camera thread.
    pub(super) fn wait_for_change<'a>(
        &self,
        state: MutexGuard<'a, State>,
        timeout: Option<std::time::Duration>,
    ) -> MutexGuard<'a, State> {
        let changed = &self.state_changed;
        match timeout {
            None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// Distributes a frame to the pads, on a thread of librealsense.
    pub(super) fn deliver(&self, frame: &Frame, epoch: u64) {
        let received_at = Instant::now();
        let Ok(Some(mode)) = frame.mode() else { return };
        let recipients: Vec<_> = {
            let state = self.lock();
            if state.epoch != epoch || state.closing {
                return;
            }
            let slowest =
                |queue: &FrameQueue| queue.modes.iter().map(|mode| mode.rate).min().unwrap_or(mode.rate);
            let accepting = state.queues.iter().filter(|(_, queue)| queue.accepts(mode));
            accepting.map(|(id, queue)| (*id, queue.syncer.clone(), slowest(queue))).collect()
        };
        if !recipients.is_empty() {
            self.pool_guard.hold(frame, mode, epoch);
        }
        for (id, syncer, slowest) in recipients {
            match syncer {
                None => self.enqueue(id, frame, received_at, epoch),
                Some(syncer) => {
                    self.enqueue_sets(id, &syncer, frame, (mode, slowest), received_at, epoch);
                }
            }
        }
    }

    /// Enqueues the framesets that a frame completes. A frame without a partner is left out, like one that the camera
    /// lost.
    fn enqueue_sets(
        &self,
        id: u64,
        syncer: &Syncer,
        frame: &Frame,
        (mode, slowest): (StreamMode, u32),
        received_at: Instant,
        epoch: u64,
    ) {
        let arrival = Arrival { at: received_at, in_real_time: self.live };
        let Ok(sets) = syncer.put(frame, mode, epoch, slowest, arrival) else { return };
        if let Some(warning) = sets.warning {
            self.change(|state| state.warnings.push(warning));
        }
        for set in &sets.frames {
            self.enqueue(id, set, received_at, epoch);
        }
    }

    fn enqueue(&self, id: u64, frame: &Frame, received_at: Instant, epoch: u64) {
        let Ok(frame) = frame.share() else { return };
        frame.keep();
        let mut state = self.lock();
        // A live queue drops frames. Otherwise librealsense's reading thread waits here for space in the queue, unless
        // another pad is starved: the frames of that pad can only follow this one.
        loop {
            if self.live {
                break;
            }
            let State { queues, closing, epoch: current, warnings, .. } = &mut *state;
            let Some(queue) = queues.get(&id) else { return };
            if *closing || *current != epoch {
                return;
            }
            if queue.has_space() {
                break;
            }
            let held: usize = queues.values().map(FrameQueue::bytes).sum();
            let starved = || queues.iter().filter(|(other, queue)| **other != id && queue.is_starved());
            if starved().next().is_some() {
                if held < MAX_HELD_BYTES {
                    break;
                }
                // The pipeline would stand still forever if the starved streams did not end.
                warnings.extend(starved().map(|(_, queue)| starved_too_long(queue.name())));
                queues.values_mut().filter(|queue| queue.is_starved()).for_each(FrameQueue::end);
                self.state_changed.notify_all();
                self.frames_changed.notify_all();
                continue;
            }
            state = self.space_freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(queue) = state.queues.get_mut(&id) {
            queue.push(frame, received_at, epoch, self.live);
        }
        drop(state);
        self.frames_changed.notify_all();
    }
}

fn starved_too_long(name: &str) -> String {
    let megabytes = MAX_HELD_BYTES >> 20;
    format!(
        "the recording has {megabytes} MB of other streams without a frame of {name}, so {name} ends here; play the \
         streams one by one, or with real-time=true"
    )
}
