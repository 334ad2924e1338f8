//! A pad's place at the camera: what it has chosen, and the frames that wait for it.

use super::{
    OpenError, find,
    pairing::Pairing,
    shared::{Phase, Shared, State},
};
use crate::{
    camera::{Bundler, Device, Error, Frame, Shape, StreamKind},
    depth::Processing,
    timeline::Timeline,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a camera may give no frame.
const PATIENCE: Duration = Duration::from_secs(5);

/// A frame, and when it came.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) frame: Frame,
    pub(crate) at: Instant,
    /// Which start of the camera it is of.
    pub(crate) epoch: u64,
    /// Frames before it were lost here.
    pub(crate) after_loss: bool,
}

/// Why no frame comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The pad is to stop waiting.
    Flushing,
    /// The recording is over.
    Ended,
    /// In words for the user.
    Failed(String),
}

/// What the reader knows of a pad.
pub(super) struct Seat {
    kinds: Vec<StreamKind>,
    /// The mode of each of its streams, once chosen.
    pub(super) chosen: Vec<Shape>,
    /// It has asked for frames.
    pub(super) ready: bool,
    flushing: bool,
    queue: VecDeque<Arrived>,
    lost: bool,
    pub(super) last_frame: Instant,
    /// Makes sets of frames of the same moment.
    pub(super) together: Option<Arc<Together>>,
}

impl Seat {
    pub(super) fn takes(&self, shape: Shape) -> bool {
        // All but the rate, which a recording may not tell truly.
        let same = |chosen: &Shape| Shape { rate: shape.rate, ..*chosen } == shape;
        self.ready && !self.flushing && self.chosen.iter().any(same)
    }

    fn limit(&self) -> usize {
        // Motion comes ten times as often.
        if self.kinds.contains(&StreamKind::Gyro) || self.kinds.contains(&StreamKind::Accel) { 64 } else { 4 }
    }

    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < self.limit() || self.flushing
    }

    /// Whether it may hold more, so that another pad gets what it needs.
    pub(super) fn can_stretch(&self) -> bool {
        self.queue.len() < 32 * self.limit()
    }

    /// Its frames are old.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(super) fn is_starving(&self) -> bool {
        self.ready && !self.flushing && self.queue.is_empty()
    }

    pub(super) fn push(&mut self, frame: Frame, at: Instant, epoch: u64, live: bool) {
        self.last_frame = at;
        if live && self.queue.len() >= self.limit() {
            self.queue.pop_front();
            self.lost = true;
        }
        self.queue.push_back(Arrived { frame, at, epoch, after_loss: std::mem::take(&mut self.lost) });
    }
}

/// Sets of frames of two streams of the same moment.
pub(super) struct Together {
    /// The stream that is wanted; the other one is what it is aligned to.
    target: StreamKind,
    bundler: Bundler,
    /// Of one epoch, made with its first frame.
    pairing: Mutex<Option<(u64, Pairing<Frame>)>>,
}

impl Together {
    fn new(target: StreamKind) -> Result<Self, Error> {
        Ok(Self { target, bundler: Bundler::new()?, pairing: Mutex::new(None) })
    }

    /// The set that this frame completes.
    pub(super) fn put(&self, frame: &Frame, shape: Shape, epoch: u64) -> Result<Option<Frame>, Error> {
        let time = frame.timestamp()?;
        let frame = frame.share()?;
        frame.keep();
        let mut pairing = self.pairing.lock().unwrap_or_else(PoisonError::into_inner);
        if pairing.as_ref().is_none_or(|(of, _)| *of != epoch) {
            *pairing = Some((epoch, Pairing::new(shape.rate)));
        }
        let pair =
            pairing.as_mut().and_then(|(_, pairing)| pairing.put(shape.kind == self.target, time, frame));
        // The lock is held on: sets leave in the order in which they were completed.
        match pair {
            Some((target, other)) => self.bundler.bundle(&target, other),
            None => Ok(None),
        }
    }
}

/// A pad's end of its [`Seat`], which it leaves when this is dropped.
pub(crate) struct Member {
    shared: Arc<Shared>,
    id: u64,
    kinds: Vec<StreamKind>,
}

impl Member {
    pub(super) fn join(shared: Arc<Shared>, kinds: &[StreamKind], together: bool) -> Result<Self, OpenError> {
        let together = match kinds {
            [target, ..] if together => Some(Arc::new(Together::new(*target)?)),
            _ => None,
        };
        let seat = Seat {
            kinds: kinds.to_vec(),
            chosen: Vec::new(),
            ready: false,
            flushing: false,
            queue: VecDeque::new(),
            lost: false,
            last_frame: Instant::now(),
            together,
        };
        let id = shared.change(|state| {
            let id = state.seats.last_key_value().map_or(0, |(last, _)| last + 1);
            state.seats.insert(id, seat);
            id
        });
        Ok(Self { shared, id, kinds: kinds.to_vec() })
    }

    /// The camera.
    pub(crate) fn device(&self) -> Arc<Device> {
        self.shared.lock().device.clone()
    }

    /// What is to be done to depth.
    pub(crate) fn processing(&self) -> Arc<Processing> {
        self.shared.lock().processing.clone()
    }

    /// Whether frames come in real time.
    pub(crate) fn is_live(&self) -> bool {
        self.shared.live
    }

    /// Calls `with` with the timeline that all pads share.
    pub(crate) fn with_timeline<T>(&self, with: impl FnOnce(&mut Timeline) -> T) -> T {
        with(&mut self.shared.timeline.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The modes of this stream that this pad can choose from: one only, where another pad has chosen.
    pub(crate) fn shapes(&self, kind: StreamKind) -> Vec<Shape> {
        let (device, chosen) = {
            let state = self.shared.lock();
            (state.device.clone(), self.chosen_by_others(&state, kind))
        };
        match chosen {
            Some(shape) => vec![shape],
            // Can't be read: as if there were none, which is an error with words where there must be one.
            None => find::shapes(&device)
                .unwrap_or_default()
                .into_iter()
                .filter(|shape| shape.kind == kind)
                .collect(),
        }
    }

    fn chosen_by_others(&self, state: &State, kind: StreamKind) -> Option<Shape> {
        let others = state.seats.iter().filter(|(id, _)| **id != self.id);
        others.flat_map(|(_, seat)| &seat.chosen).find(|shape| shape.kind == kind).copied()
    }

    /// Waits until another pad that has this stream has chosen its mode. False where this one is to stop waiting.
    pub(crate) fn wait_for_choice(&self, kind: StreamKind) -> bool {
        let mut state = self.shared.lock();
        loop {
            let flushing = state.seats.get(&self.id).is_none_or(|seat| seat.flushing);
            if state.closing || flushing {
                return false;
            }
            let undecided = state.seats.iter().any(|(id, seat)| {
                *id != self.id
                    && seat.together.is_none()
                    && seat.kinds.contains(&kind)
                    && seat.chosen.is_empty()
            });
            if !undecided {
                return true;
            }
            state = self.shared.frames.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Chooses the modes of its streams.
    pub(crate) fn choose(&self, shapes: Vec<Shape>) {
        self.shared.change(|state| {
            if let Some(seat) = state.seats.get_mut(&self.id).filter(|seat| seat.chosen != shapes) {
                seat.chosen = shapes;
                seat.queue.clear();
            }
        });
    }

    /// The next frame.
    pub(crate) fn next(&self) -> Result<Arrived, Interrupt> {
        let mut state = self.ask_for_frames();
        loop {
            let State { seats, closing, phase, playing, device, .. } = &mut *state;
            let Some(seat) = seats.get_mut(&self.id).filter(|seat| !seat.flushing && !*closing) else {
                return Err(Interrupt::Flushing);
            };
            if let Some(arrived) = seat.queue.pop_front() {
                drop(state);
                if !self.shared.live {
                    self.shared.room.notify_all();
                }
                return Ok(arrived);
            }
            let mut at_most = None;
            match phase {
                Phase::Ended => return Err(Interrupt::Ended),
                Phase::Failed(words) => return Err(Interrupt::Failed(words.to_string())),
                // The end of a recording is known; that a camera is stuck is not.
                Phase::Running if !self.shared.request.is_recording() && *playing => {
                    let left = PATIENCE.saturating_sub(seat.last_frame.elapsed());
                    if left.is_zero() {
                        return Err(Interrupt::Failed(self.stalled(device)));
                    }
                    at_most = Some(left);
                }
                Phase::Waiting | Phase::Gone | Phase::Running => {}
            }
            state = self.wait(state, at_most);
        }
    }

    fn ask_for_frames(&self) -> MutexGuard<'_, State> {
        let state = self.shared.lock();
        if state.seats.get(&self.id).is_some_and(|seat| seat.ready) {
            return state;
        }
        drop(state);
        self.shared.change(|state| {
            if let Some(seat) = state.seats.get_mut(&self.id) {
                seat.ready = true;
            }
        });
        self.shared.lock()
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Option<Duration>) -> MutexGuard<'a, State> {
        let frames = &self.shared.frames;
        match at_most {
            None => frames.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(time) => frames.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0,
        }
    }

    fn stalled(&self, device: &Device) -> String {
        let streams: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        format!(
            "no frame of {} for {} s from {}: check its cable and that the port gives it enough power and speed \
             (USB 3), then start again",
            streams.join(" and "),
            PATIENCE.as_secs(),
            find::title(device)
        )
    }

    /// Stops waiting at once, and from now on; or begins anew.
    pub(crate) fn set_flushing(&self, flushing: bool) {
        let live = self.shared.live;
        self.shared.change(|state| {
            if let Some(seat) = state.seats.get_mut(&self.id) {
                seat.flushing = flushing;
                seat.last_frame = Instant::now();
                if live {
                    // What came meanwhile is too late.
                    seat.queue.clear();
                }
            }
        });
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shared.change(|state| state.seats.remove(&self.id));
    }
}
