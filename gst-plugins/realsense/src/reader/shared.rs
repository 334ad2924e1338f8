//! What the control thread, the library's threads and the pads share.

use super::{
    Controls, Report, Request,
    anchors::Anchors,
    seat::Seat,
    together::{Arrival, Together},
};
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

/// How much the pads of a recording that is not played in real time may hold together, in bytes, while another pad waits
/// for a frame. Each stream of a recording may pause or end before the others, and a muxer downstream accepts no frame of
/// the others meanwhile.
const MOST_HELD: usize = 256 << 20;

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
    /// Texts for the user, which the control thread reports.
    pub(super) warnings: Vec<String>,
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
            warnings: Vec::new(),
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
            let slowest =
                |seat: &Seat| seat.chosen.iter().map(|shape| shape.rate).min().unwrap_or(shape.rate);
            takers.map(|(id, seat)| (*id, seat.together.clone(), slowest(seat))).collect()
        };
        if !takers.is_empty() {
            self.anchors.hold(frame, shape, epoch);
        }
        for (id, together, slowest) in takers {
            match together {
                None => self.seat(id, frame, at, epoch),
                Some(together) => self.seat_sets(id, &together, frame, (shape, slowest), at, epoch),
            }
        }
    }

    /// Hands over the sets that a frame completes. A frame without a partner is left out, like one that the camera lost.
    fn seat_sets(
        &self,
        id: u64,
        together: &Together,
        frame: &Frame,
        (shape, slowest): (Shape, u32),
        at: Instant,
        epoch: u64,
    ) {
        let arrival = Arrival { at, in_real_time: self.live };
        let Ok(sets) = together.put(frame, shape, epoch, slowest, arrival) else { return };
        if let Some(warning) = sets.warning {
            self.change(|state| state.warnings.push(warning));
        }
        for set in &sets.frames {
            self.seat(id, set, at, epoch);
        }
    }

    fn seat(&self, id: u64, frame: &Frame, at: Instant, epoch: u64) {
        let Ok(frame) = frame.share() else { return };
        frame.keep();
        let mut state = self.lock();
        // In real time, frames that are late are lost. Otherwise the library's reading thread waits here until the pad has
        // room, except while another pad starves: its frames can only follow this one.
        loop {
            if self.live {
                break;
            }
            let State { seats, closing, epoch: current, warnings, .. } = &mut *state;
            let Some(seat) = seats.get(&id) else { return };
            if *closing || *current != epoch {
                return;
            }
            if seat.has_room() {
                break;
            }
            let held: usize = seats.values().map(Seat::held).sum();
            let starving = || seats.iter().filter(|(other, seat)| **other != id && seat.is_starving());
            if starving().next().is_some() {
                if held < MOST_HELD {
                    break;
                }
                // Without an end the pipeline would stand still for good.
                warnings.extend(starving().map(|(_, seat)| {
                    let (name, megabytes) = (seat.names(), MOST_HELD >> 20);
                    format!(
                        "the recording has {megabytes} MB of other streams without a frame of {name}: {name} ends here; \
                         play the streams one by one, or with real-time=true"
                    )
                }));
                seats.values_mut().filter(|seat| seat.is_starving()).for_each(Seat::end);
                self.control.notify_all();
                self.frames.notify_all();
                continue;
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
