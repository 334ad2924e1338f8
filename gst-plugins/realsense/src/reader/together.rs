//! Sets of frames of two streams that were captured at the same moment, which is what alignment works on.

use super::pairing::Pairing;
use crate::camera::{Bundler, Error, Frame, Shape, StreamKind, TimeDomain};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Makes the sets.
pub(super) struct Together {
    /// The stream that is wanted. The other one is what it is aligned to.
    target: StreamKind,
    bundler: Bundler,
    /// When this was made; arrivals are counted from then on.
    since: Instant,
    /// Of one epoch, made with its first frame.
    pairs: Mutex<Option<Pairs>>,
}

struct Pairs {
    epoch: u64,
    pairing: Pairing<Frame>,
    /// The clock of each stream's times.
    domains: BTreeMap<StreamKind, TimeDomain>,
}

/// The sets that a frame completes.
#[derive(Default)]
pub(super) struct Sets {
    pub(super) frames: Vec<Frame>,
    /// A text for the user: from this frame on the streams are paired by arrival.
    pub(super) warning: Option<String>,
}

/// How the frames of a camera arrive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    /// False for a recording that is played as fast as downstream accepts it.
    pub(super) in_real_time: bool,
}

impl Together {
    pub(super) fn new(target: StreamKind) -> Result<Self, Error> {
        Ok(Self { target, bundler: Bundler::new()?, since: Instant::now(), pairs: Mutex::new(None) })
    }

    /// Adds a frame. `slowest`: the frames per second of the slower of the two streams.
    pub(super) fn put(
        &self,
        frame: &Frame,
        shape: Shape,
        epoch: u64,
        slowest: u32,
        arrival: Arrival,
    ) -> Result<Sets, Error> {
        let time = frame.timestamp()?;
        let domain = frame.time_domain()?.unwrap_or(TimeDomain::SystemTime);
        let frame = frame.share()?;
        frame.keep();
        let is_target = shape.kind == self.target;
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = match &mut *pairs {
            Some(pairs) if pairs.epoch == epoch => pairs,
            stale => stale.insert(Pairs { epoch, pairing: Pairing::new(slowest), domains: BTreeMap::new() }),
        };
        let mut sets = Sets::default();
        let was_mixed = pairs.is_mixed();
        pairs.domains.insert(shape.kind, domain);
        if pairs.is_mixed() != was_mixed {
            // The times of the frames that wait mean nothing any more.
            pairs.pairing = Pairing::new(slowest);
            sets.warning = pairs.is_mixed().then(|| pairs.warning());
        }
        let completed = match (pairs.is_mixed(), arrival.in_real_time) {
            (false, _) => pairs.pairing.put(is_target, time, frame),
            (true, true) => {
                let arrived = arrival.at.duration_since(self.since).as_secs_f64() * 1000.0;
                pairs.pairing.put(is_target, arrived, frame)
            }
            (true, false) => pairs.pairing.put_by_arrival(is_target, frame).into_iter().collect(),
        };
        // The lock is still held, so sets leave in the order in which they were completed.
        for (target, partner) in completed {
            sets.frames.extend(self.bundler.bundle(&target, partner.share()?)?);
        }
        Ok(sets)
    }
}

impl Pairs {
    fn is_mixed(&self) -> bool {
        let mut domains = self.domains.values();
        domains.next().is_some_and(|first| domains.any(|other| other != first))
    }

    fn warning(&self) -> String {
        let clocks: Vec<_> = self
            .domains
            .iter()
            .map(|(kind, domain)| format!("{} of {}", kind.name(), domain.name()))
            .collect();
        format!(
            "the times of the streams are of different clocks ({}), so frames are aligned that arrive together, which \
             may be a frame apart; a stream without metadata has the time of the host, and the kernel patches or the \
             RSUSB backend of librealsense provide metadata",
            clocks.join(", ")
        )
    }
}
