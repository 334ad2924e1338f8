//! What the control thread, the library's threads and the pads share.

use super::{Controls, Report, Request, anchors::Anchors, seat::Seat};
use crate::{
    camera::{Device, Frame, Shape},
    depth::Processing,
    timeline::Timeline,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// What all threads around one camera share.
pub(super) struct Shared {
    pub(super) request: Request,
    pub(super) live: bool,
    pub(super) timeline: Mutex<Timeline>,
    pub(super) report: Box<dyn Fn(Report) + Send + Sync>,
    state: Mutex<State>,
    /// Wakes the control thread.
    control: Condvar,
    /// Wakes pads: a frame is there, or none will come.
    pub(super) frames: Condvar,
    /// Wakes the library's threads: a pad has taken a frame.
    pub(super) room: Condvar,
    /// Last, so that it goes after the device.
    anchors: Anchors,
}

/// What may change.
pub(super) struct State {
    pub(super) device: Arc<Device>,
    pub(super) seats: BTreeMap<u64, Seat>,
    pub(super) phase: Phase,
    /// Counts the starts of the camera: frames of an earlier one are old.
    pub(super) epoch: u64,
    pub(super) playing: bool,
    pub(super) closing: bool,
    /// The library says that the device is gone.
    pub(super) unplugged: bool,
    /// As changed while playing.
    pub(super) reconnect: Option<bool>,
    pub(super) controls: Controls,
    pub(super) processing: Arc<Processing>,
}

/// What the camera does.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Not streaming until all pads have chosen and want frames.
    Waiting,
    Running,
    /// The recording is over.
    Ended,
    /// Unplugged, and waited for.
    Gone,
    /// It is over, for this reason.
    Failed(Arc<str>),
}

impl State {
    pub(super) fn new(device: Arc<Device>, controls: Controls, processing: Processing) -> Self {
        Self {
            device,
            seats: BTreeMap::new(),
            phase: Phase::Waiting,
            epoch: 0,
            playing: false,
            closing: false,
            unplugged: false,
            reconnect: None,
            controls,
            processing: Arc::new(processing),
        }
    }

    /// The modes that pads which want frames have chosen.
    pub(super) fn wanted(&self) -> BTreeSet<Shape> {
        self.seats.values().filter(|seat| seat.ready).flat_map(|seat| seat.chosen.iter().copied()).collect()
    }

    /// Nobody has to have got a frame before now.
    pub(super) fn restart_patience(&mut self) {
        let now = Instant::now();
        self.seats.values_mut().for_each(|seat| seat.last_frame = now);
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
            control: Condvar::new(),
            frames: Condvar::new(),
            room: Condvar::new(),
            anchors: Anchors::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes who may care.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.control.notify_all();
        self.frames.notify_all();
        self.room.notify_all();
        result
    }

    /// Waits for a change; for the control thread.
    pub(super) fn wait_for_change<'a>(
        &self,
        state: MutexGuard<'a, State>,
        at_most: Option<std::time::Duration>,
    ) -> MutexGuard<'a, State> {
        match at_most {
            None => self.control.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.control.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    /// A frame came, in a thread of the library.
    pub(super) fn deliver(&self, frame: &Frame, epoch: u64) {
        let at = Instant::now();
        let Ok(Some(shape)) = frame.shape() else { return };
        let takers: Vec<_> = {
            let state = self.lock();
            if state.epoch != epoch || state.closing {
                return;
            }
            let takers = state.seats.iter().filter(|(_, seat)| seat.takes(shape));
            takers.map(|(id, seat)| (*id, seat.together.clone())).collect()
        };
        if !takers.is_empty() {
            self.anchors.hold(frame, shape, epoch);
        }
        for (id, together) in takers {
            match together {
                None => self.seat(id, frame, at, epoch),
                // A frame that finds no partner is left out, as one that the camera lost.
                Some(together) => {
                    if let Ok(Some(set)) = together.put(frame, shape, epoch) {
                        self.seat(id, &set, at, epoch);
                    }
                }
            }
        }
    }

    fn seat(&self, id: u64, frame: &Frame, at: Instant, epoch: u64) {
        let Ok(frame) = frame.share() else { return };
        frame.keep();
        let mut state = self.lock();
        // In real time what is too late is lost. Otherwise who reads the recording waits; but not while another pad
        // starves, whose frames can only come after this one.
        loop {
            if self.live {
                break;
            }
            let State { seats, closing, epoch: current, .. } = &*state;
            let Some(seat) = seats.get(&id) else { return };
            if *closing || *current != epoch {
                return;
            }
            let starving = seats.iter().any(|(other, seat)| *other != id && seat.is_starving());
            if seat.has_room() || (starving && seat.can_stretch()) {
                break;
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(seat) = state.seats.get_mut(&id) {
            seat.push(frame, at, epoch, self.live);
        }
        drop(state);
        self.frames.notify_all();
    }
}
