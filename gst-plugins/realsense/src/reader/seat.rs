//! A pad's place at the camera: what it has chosen, and the frames that wait for it.

use super::{
    OpenError, find,
    shared::{Phase, Shared, State},
    together::Together,
};
use crate::{
    camera::{Device, Frame, Shape, StreamKind},
    depth::Processing,
    timeline::Timeline,
};
use std::{
    collections::VecDeque,
    sync::{Arc, MutexGuard, PoisonError},
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
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Seat {
    kinds: Vec<StreamKind>,
    /// The mode of each of its streams, once chosen.
    pub(super) chosen: Vec<Shape>,
    /// It has asked for frames.
    pub(super) ready: bool,
    flushing: bool,
    queue: VecDeque<Arrived>,
    /// The size of the frames in the queue, in bytes.
    held: usize,
    /// No frame has arrived for so long that other streams could not be held back any longer.
    over: bool,
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

    /// The size of the frames that it holds, in bytes.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Drops its frames, because they are of an earlier start.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        (self.held, self.over) = (0, false);
    }

    /// Whether its pad waits for a frame.
    pub(super) fn is_starving(&self) -> bool {
        self.ready && !self.flushing && !self.over && self.queue.is_empty()
    }

    /// Ends the stream of its pad.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// The names of its streams.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.kinds.iter().take(1).map(|kind| kind.name()).collect();
        names.join(" and ")
    }

    pub(super) fn push(&mut self, frame: Frame, at: Instant, epoch: u64, live: bool) {
        self.last_frame = at;
        if self.over {
            return;
        }
        if live && self.queue.len() >= self.limit() {
            self.pop();
            self.lost = true;
        }
        self.held += size_of_frame(&frame);
        self.queue.push_back(Arrived { frame, at, epoch, after_loss: std::mem::take(&mut self.lost) });
    }
}

impl Seat {
    fn pop(&mut self) -> Option<Arrived> {
        let arrived = self.queue.pop_front()?;
        self.held = self.held.saturating_sub(size_of_frame(&arrived.frame));
        Some(arrived)
    }
}

/// The size of a frame in bytes. A set counts as its target, because its partner is shared.
fn size_of_frame(frame: &Frame) -> usize {
    frame.data().map_or(0, <[u8]>::len)
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
            held: 0,
            over: false,
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
                seat.clear();
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
            if let Some(arrived) = seat.pop() {
                drop(state);
                if !self.shared.live {
                    self.shared.room.notify_all();
                }
                return Ok(arrived);
            }
            if seat.over {
                return Err(Interrupt::Ended);
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
                    // Frames that arrived meanwhile are too late.
                    seat.clear();
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
