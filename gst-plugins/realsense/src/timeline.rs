//! Maps the timestamps of the camera to the time of the pipeline, from which a frame's PTS follows. It uses no
//! GStreamer objects.
//! Live, the result is a time of the pipeline's clock: the camera's timestamp plus the smallest transfer delay observed
//! so far, which removes the jitter of the transfer. For a recording with `real-time=false` it is the time since the
//! first frame, with the loops of the recording in succession.

use crate::camera::{StreamKind, TimeDomain};
use std::collections::BTreeMap;

/// Two streams share a clock if the offsets of their timestamps to the pipeline's clock differ by less than this, in
/// ns.
const SAME_CLOCK: i64 = 200_000_000;
/// A frame that is later than expected by more than this, in ns, shows that the camera's clock was set back.
const CLOCK_STEP: i64 = 300_000_000;
/// The estimate follows a camera's clock that runs slow by at most this fraction of the elapsed time.
const DRIFT: i64 = 500;

/// The timestamp and the arrival of a frame, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameTime {
    pub(crate) kind: StreamKind,
    /// Counts the starts of the camera and the loops of the recording.
    pub(crate) epoch: u64,
    pub(crate) domain: TimeDomain,
    /// The camera's timestamp, on the clock `domain`.
    pub(crate) timestamp: i64,
    /// The arrival at the host, on the pipeline's clock.
    pub(crate) arrival: i64,
    /// The time until the next frame is expected.
    pub(crate) duration: i64,
}

/// The timeline of all streams of one camera. Frames that were captured at the same time get the same time.
#[derive(Debug)]
pub(crate) struct Timeline {
    live: bool,
    epoch: u64,
    clocks: Vec<Clock>,
    clock_of_stream: BTreeMap<StreamKind, usize>,
    /// For each epoch and clock: the first timestamp, and the time since the start that it corresponds to. The last two
    /// epochs are kept, because the streams do not enter the next epoch at the same moment.
    epochs: BTreeMap<(u64, TimeDomain), (i64, i64)>,
    end: i64,
}

#[derive(Debug)]
struct Clock {
    domain: TimeDomain,
    /// Nanoseconds to add to a time of the camera's clock to get the time of the pipeline's clock.
    offset: i64,
    last: i64,
}

impl Timeline {
    /// The timeline of a camera that has delivered nothing yet.
    pub(crate) fn new(live: bool) -> Self {
        Self {
            live,
            epoch: 0,
            clocks: Vec::new(),
            clock_of_stream: BTreeMap::new(),
            epochs: BTreeMap::new(),
            end: 0,
        }
    }

    /// Discards the estimates, because the recording paused while the pipeline's clock continued.
    pub(crate) fn reset(&mut self) {
        self.clocks.clear();
        self.clock_of_stream.clear();
    }

    /// The time of a frame: live, on the pipeline's clock; otherwise since the start.
    pub(crate) fn map(&mut self, frame: FrameTime) -> i64 {
        if self.live { self.map_live(frame) } else { self.map_recorded(frame) }
    }

    fn map_live(&mut self, frame: FrameTime) -> i64 {
        if frame.epoch > self.epoch {
            self.epoch = frame.epoch;
            self.reset();
        }
        let offset = frame.arrival.saturating_sub(frame.timestamp);
        let index = self.clock_of(&frame, offset);
        let Some(clock) = self.clocks.get_mut(index) else { return frame.arrival };
        let late = offset.saturating_sub(clock.offset);
        if late > CLOCK_STEP {
            clock.offset = offset;
        } else {
            let passed = frame.timestamp.saturating_sub(clock.last).clamp(0, 1_000_000_000);
            clock.offset += late.min(passed / DRIFT);
        }
        clock.last = frame.timestamp;
        frame.timestamp.saturating_add(clock.offset)
    }

    fn clock_of(&mut self, frame: &FrameTime, offset: i64) -> usize {
        if let Some(index) = self.clock_of_stream.get(&frame.kind)
            && self.clocks.get(*index).is_some_and(|clock| clock.domain == frame.domain)
        {
            return *index;
        }
        let same = |clock: &Clock| {
            clock.domain == frame.domain && clock.offset.saturating_sub(offset).abs() < SAME_CLOCK
        };
        let index = self.clocks.iter().position(same).unwrap_or_else(|| {
            self.clocks.push(Clock { domain: frame.domain, offset, last: frame.timestamp });
            self.clocks.len() - 1
        });
        self.clock_of_stream.insert(frame.kind, index);
        index
    }

    fn map_recorded(&mut self, frame: FrameTime) -> i64 {
        let end = self.end;
        let base = self
            .epochs
            .iter()
            .find(|((epoch, _), _)| *epoch == frame.epoch)
            .map_or(end, |(_, start)| start.1);
        let (first, base) =
            *self.epochs.entry((frame.epoch, frame.domain)).or_insert((frame.timestamp, base));
        self.epochs.retain(|(epoch, _), _| epoch.saturating_add(1) >= frame.epoch);
        let time = base.saturating_add(frame.timestamp.saturating_sub(first)).max(base);
        self.end = self.end.max(time.saturating_add(frame.duration));
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn frame(timestamp: i64, arrival: i64) -> FrameTime {
        FrameTime {
            kind: StreamKind::Color,
            epoch: 1,
            domain: TimeDomain::HardwareClock,
            timestamp: timestamp * MS,
            arrival: arrival * MS,
            duration: 33 * MS,
        }
    }

    fn near(time: i64, ms: i64) -> bool {
        (time - ms * MS).abs() <= MS / 5
    }

    #[test]
    fn the_jitter_of_the_transfer_is_removed() {
        let mut timeline = Timeline::new(true);
        assert_eq!(timeline.map(frame(1000, 50_000)), 50_000 * MS);
        assert!(near(timeline.map(frame(1033, 50_045)), 50_033));
        // The smallest delay so far.
        assert_eq!(timeline.map(frame(1066, 50_060)), 50_060 * MS);
        assert!(near(timeline.map(frame(1100, 50_120)), 50_094));
    }

    #[test]
    fn no_frame_is_later_than_its_arrival() {
        let mut timeline = Timeline::new(true);
        for (n, delay) in [9, 3, 17, 0, 40, 2].into_iter().enumerate() {
            let device = 1000 + 33 * i64::try_from(n).unwrap();
            assert!(timeline.map(frame(device, device + delay)) <= (device + delay) * MS);
        }
    }

    #[test]
    fn frames_of_different_streams_captured_together_get_the_same_time() {
        let mut timeline = Timeline::new(true);
        timeline.map(frame(1000, 50_010));
        let depth = timeline.map(FrameTime { kind: StreamKind::Depth, ..frame(1000, 50_000) });
        let color = timeline.map(frame(1033, 50_043));
        assert_eq!(depth, 50_000 * MS);
        assert!(near(color, 50_033), "{color}");
    }

    #[test]
    fn streams_of_different_clocks_are_mapped_independently() {
        let mut timeline = Timeline::new(true);
        timeline.map(frame(1000, 50_000));
        let other = FrameTime { kind: StreamKind::Depth, ..frame(900_000, 50_001) };
        assert_eq!(timeline.map(other), 50_001 * MS);
        let host =
            FrameTime { kind: StreamKind::Gyro, domain: TimeDomain::SystemTime, ..frame(1000, 50_002) };
        assert_eq!(timeline.map(host), 50_002 * MS);
        assert!(near(timeline.map(frame(1033, 50_040)), 50_033));
    }

    #[test]
    fn a_clock_that_is_set_back_or_restarted_continues_from_the_arrival() {
        let mut timeline = Timeline::new(true);
        timeline.map(frame(100_000, 50_000));
        assert_eq!(timeline.map(frame(10, 50_033)), 50_033 * MS);
        // The smaller delay of the earlier epoch does not count.
        timeline.map(FrameTime { epoch: 2, ..frame(10, 50_100) });
        assert!(near(timeline.map(FrameTime { epoch: 2, ..frame(43, 50_133) }), 50_133));
    }

    #[test]
    fn after_a_pause_times_follow_the_clock_of_the_pipeline() {
        let mut timeline = Timeline::new(true);
        timeline.map(frame(1000, 50_000));
        timeline.reset();
        assert_eq!(timeline.map(frame(1033, 50_200)), 50_200 * MS);
    }

    #[test]
    fn a_slow_camera_clock_is_followed() {
        let mut timeline = Timeline::new(true);
        let mut time = 0;
        for second in 0..100 {
            // The camera's clock is a thousandth too slow.
            time = timeline.map(frame(1000 * second, 1001 * second));
        }
        assert!(near(time, 1001 * 99), "{time}");
    }

    #[test]
    fn recorded_streams_of_two_clocks_begin_together() {
        let mut timeline = Timeline::new(false);
        let host = |device: i64| FrameTime {
            kind: StreamKind::Depth,
            domain: TimeDomain::SystemTime,
            ..frame(1_764_000_000_000 + device, 0)
        };
        assert_eq!(timeline.map(frame(5000, 0)), 0);
        assert_eq!(timeline.map(host(0)), 0);
        assert_eq!(timeline.map(frame(5033, 0)), 33 * MS);
        assert_eq!(timeline.map(host(33)), 33 * MS);
        // The next loop begins together, too.
        assert_eq!(timeline.map(FrameTime { epoch: 2, ..frame(5000, 0) }), 66 * MS);
        assert_eq!(timeline.map(FrameTime { epoch: 2, ..host(0) }), 66 * MS);
    }

    #[test]
    fn loops_of_a_recording_follow_each_other() {
        let mut timeline = Timeline::new(false);
        let depth = |epoch, device| FrameTime { kind: StreamKind::Depth, epoch, ..frame(device, 0) };
        assert_eq!(timeline.map(frame(5000, 0)), 0);
        assert_eq!(timeline.map(depth(1, 4999)), 0);
        assert_eq!(timeline.map(frame(5033, 0)), 33 * MS);
        // The next loop has begun for one stream, but not for the other one.
        assert_eq!(timeline.map(FrameTime { epoch: 2, ..frame(5000, 0) }), 66 * MS);
        assert_eq!(timeline.map(depth(1, 5033)), 33 * MS);
        assert_eq!(timeline.map(depth(2, 5000)), 66 * MS);
    }
}
