//! Combines the frames of two streams that were captured at the same moment into framesets, which alignment needs.
//! Frames are paired by their timestamps ([`super::pairing`]), or by their arrival if the timestamps come from
//! different clocks.

use super::pairing::Pairing;
use crate::{
    camera::{Error, Frame, FramesetBuilder, StreamKind, StreamMode, TimeDomain},
    sync::lock,
};
use std::{collections::BTreeMap, sync::Mutex, time::Instant};

/// Combines the frames of two streams.
pub(super) struct Syncer {
    /// The stream that is aligned to the other one.
    target: StreamKind,
    framesets: FramesetBuilder,
    /// The origin of arrival times.
    since: Instant,
    /// The pairs of the current epoch.
    pairs: Mutex<Option<Pairs>>,
}

struct Pairs {
    epoch: u64,
    pairing: Pairing<Frame>,
    /// The clock that each stream's timestamps come from.
    domains: BTreeMap<StreamKind, TimeDomain>,
}

/// The framesets that a frame completes.
#[derive(Default)]
pub(super) struct Sets {
    pub(super) frames: Vec<Frame>,
    /// A warning for the user: from this frame on, frames are paired by arrival.
    pub(super) warning: Option<String>,
}

/// How a frame arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    /// False for a recording that is played as fast as downstream accepts it.
    pub(super) in_real_time: bool,
}

impl Syncer {
    pub(super) fn new(target: StreamKind) -> Result<Self, Error> {
        Ok(Self {
            target,
            framesets: FramesetBuilder::new()?,
            since: Instant::now(),
            pairs: Mutex::new(None),
        })
    }

    /// Adds a frame. `slowest` is the frame rate of the slower stream.
    pub(super) fn put(
        &self,
        frame: &Frame,
        mode: StreamMode,
        epoch: u64,
        slowest: u32,
        arrival: Arrival,
    ) -> Result<Sets, Error> {
        let time = frame.timestamp()?;
        let domain = frame.time_domain()?.unwrap_or(TimeDomain::SystemTime);
        let frame = frame.share()?;
        frame.keep();
        let is_target = mode.kind == self.target;
        let mut pairs = lock(&self.pairs);
        let pairs = match &mut *pairs {
            Some(pairs) if pairs.epoch == epoch => pairs,
            stale => stale.insert(Pairs { epoch, pairing: Pairing::new(slowest), domains: BTreeMap::new() }),
        };
        let mut sets = Sets::default();
        let was_mixed = pairs.is_mixed();
        pairs.domains.insert(mode.kind, domain);
        if pairs.is_mixed() != was_mixed {
            // Waiting frames are discarded, because their times can't be compared any more.
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
        // The lock is still held, so that framesets leave in the order of their completion.
        for (target, partner) in completed {
            sets.frames.extend(self.framesets.build(&target, partner.share()?)?);
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
        let clocks: Vec<_> =
            self.domains.iter().map(|(kind, domain)| format!("{}: {}", kind.name(), domain.name())).collect();
        format!(
            "the timestamps of the streams come from different clocks ({}), so frames are paired by arrival, which may be \
             a frame apart; a stream without metadata has the time of the host, and the kernel patches or the RSUSB \
             backend of librealsense provide metadata",
            clocks.join(", ")
        )
    }
}
