//! When a frame is due: times of the camera to times of the pipeline. Without GStreamer objects.

use crate::camera::{StreamKind, TimeDomain};
use std::collections::BTreeMap;

/// Two streams whose clocks are this near to each other have the same clock.
const SAME_CLOCK: i64 = 200_000_000;
/// A time that lies this far after what was expected is of a clock that has been set back.
const SET_BACK: i64 = 300_000_000;
/// One part of these many is how fast the estimate follows a camera's clock that runs slow.
const DRIFT: i64 = 500;

/// What is known of a frame's time. All in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) kind: StreamKind,
    /// Which start of the camera, or loop of the recording, it is of.
    pub(crate) epoch: u64,
    pub(crate) domain: TimeDomain,
    /// On the camera's clock.
    pub(crate) device: i64,
    /// On the pipeline's clock, when it came.
    pub(crate) arrival: i64,
    /// Until the next one is expected.
    pub(crate) duration: i64,
}

/// The times of all streams of one camera. Frames that were taken at the same time get the same time.
///
/// Live, a frame's time is that of the pipeline's clock: the camera's plus the least delay seen so far, so that the jitter
/// of the way here doesn't show. Otherwise it is the time since the first frame, loops one after the other.
#[derive(Debug)]
pub(crate) struct Timeline {
    live: bool,
    epoch: u64,
    clocks: Vec<Clock>,
    of_stream: BTreeMap<StreamKind, usize>,
    /// Per epoch and clock: the first time on that clock, and the time since the start to which it corresponds. The last
    /// two epochs are kept, because streams do not change over at the same moment.
    laps: BTreeMap<(u64, TimeDomain), (i64, i64)>,
    end: i64,
}

#[derive(Debug)]
struct Clock {
    domain: TimeDomain,
    /// From the camera's clock to the pipeline's.
    offset: i64,
    last: i64,
}

impl Timeline {
    /// Of a camera that has given nothing yet.
    pub(crate) fn new(live: bool) -> Self {
        Self { live, epoch: 0, clocks: Vec::new(), of_stream: BTreeMap::new(), laps: BTreeMap::new(), end: 0 }
    }

    /// Forgets the camera's clock: it stood still while the pipeline's went on.
    pub(crate) fn resume(&mut self) {
        self.clocks.clear();
        self.of_stream.clear();
    }

    /// The frame's time: live, on the pipeline's clock; otherwise since the start.
    pub(crate) fn place(&mut self, stamp: Stamp) -> i64 {
        if self.live { self.place_live(stamp) } else { self.place_recorded(stamp) }
    }

    fn place_live(&mut self, stamp: Stamp) -> i64 {
        if stamp.epoch > self.epoch {
            self.epoch = stamp.epoch;
            self.resume();
        }
        let offset = stamp.arrival.saturating_sub(stamp.device);
        let index = self.clock_of(&stamp, offset);
        let Some(clock) = self.clocks.get_mut(index) else { return stamp.arrival };
        let late = offset.saturating_sub(clock.offset);
        if late > SET_BACK {
            clock.offset = offset;
        } else {
            let passed = stamp.device.saturating_sub(clock.last).clamp(0, 1_000_000_000);
            clock.offset += late.min(passed / DRIFT);
        }
        clock.last = stamp.device;
        stamp.device.saturating_add(clock.offset)
    }

    fn clock_of(&mut self, stamp: &Stamp, offset: i64) -> usize {
        if let Some(index) = self.of_stream.get(&stamp.kind)
            && self.clocks.get(*index).is_some_and(|clock| clock.domain == stamp.domain)
        {
            return *index;
        }
        let same = |clock: &Clock| {
            clock.domain == stamp.domain && clock.offset.saturating_sub(offset).abs() < SAME_CLOCK
        };
        let index = self.clocks.iter().position(same).unwrap_or_else(|| {
            self.clocks.push(Clock { domain: stamp.domain, offset, last: stamp.device });
            self.clocks.len() - 1
        });
        self.of_stream.insert(stamp.kind, index);
        index
    }

    fn place_recorded(&mut self, stamp: Stamp) -> i64 {
        let end = self.end;
        let base =
            self.laps.iter().find(|((epoch, _), _)| *epoch == stamp.epoch).map_or(end, |(_, lap)| lap.1);
        let (first, base) = *self.laps.entry((stamp.epoch, stamp.domain)).or_insert((stamp.device, base));
        self.laps.retain(|(epoch, _), _| epoch.saturating_add(1) >= stamp.epoch);
        let time = base.saturating_add(stamp.device.saturating_sub(first)).max(base);
        self.end = self.end.max(time.saturating_add(stamp.duration));
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn stamp(device: i64, arrival: i64) -> Stamp {
        Stamp {
            kind: StreamKind::Color,
            epoch: 1,
            domain: TimeDomain::HardwareClock,
            device: device * MS,
            arrival: arrival * MS,
            duration: 33 * MS,
        }
    }

    fn near(time: i64, ms: i64) -> bool {
        (time - ms * MS).abs() <= MS / 5
    }

    #[test]
    fn jitter_of_the_way_does_not_show() {
        let mut timeline = Timeline::new(true);
        assert_eq!(timeline.place(stamp(1000, 50_000)), 50_000 * MS);
        assert!(near(timeline.place(stamp(1033, 50_045)), 50_033));
        // Sooner than any before: the way is shorter than thought.
        assert_eq!(timeline.place(stamp(1066, 50_060)), 50_060 * MS);
        assert!(near(timeline.place(stamp(1100, 50_120)), 50_094));
    }

    #[test]
    fn no_frame_is_placed_after_it_came() {
        let mut timeline = Timeline::new(true);
        for (n, delay) in [9, 3, 17, 0, 40, 2].into_iter().enumerate() {
            let device = 1000 + 33 * i64::try_from(n).unwrap();
            assert!(timeline.place(stamp(device, device + delay)) <= (device + delay) * MS);
        }
    }

    #[test]
    fn streams_of_one_moment_get_one_time() {
        let mut timeline = Timeline::new(true);
        timeline.place(stamp(1000, 50_010));
        let depth = timeline.place(Stamp { kind: StreamKind::Depth, ..stamp(1000, 50_000) });
        let color = timeline.place(stamp(1033, 50_043));
        assert_eq!(depth, 50_000 * MS);
        assert!(near(color, 50_033), "{color}");
    }

    #[test]
    fn streams_of_different_clocks_do_not_disturb_each_other() {
        let mut timeline = Timeline::new(true);
        timeline.place(stamp(1000, 50_000));
        let other = Stamp { kind: StreamKind::Depth, ..stamp(900_000, 50_001) };
        assert_eq!(timeline.place(other), 50_001 * MS);
        let host = Stamp { kind: StreamKind::Gyro, domain: TimeDomain::SystemTime, ..stamp(1000, 50_002) };
        assert_eq!(timeline.place(host), 50_002 * MS);
        assert!(near(timeline.place(stamp(1033, 50_040)), 50_033));
    }

    #[test]
    fn a_clock_that_is_set_back_or_begins_anew_goes_on_with_the_arrival() {
        let mut timeline = Timeline::new(true);
        timeline.place(stamp(100_000, 50_000));
        assert_eq!(timeline.place(stamp(10, 50_033)), 50_033 * MS);
        // Sooner in an earlier epoch than in the next: that counts no more.
        timeline.place(Stamp { epoch: 2, ..stamp(10, 50_100) });
        assert!(near(timeline.place(Stamp { epoch: 2, ..stamp(43, 50_133) }), 50_133));
    }

    #[test]
    fn after_a_pause_times_are_those_of_the_pipelines_clock() {
        let mut timeline = Timeline::new(true);
        timeline.place(stamp(1000, 50_000));
        timeline.resume();
        assert_eq!(timeline.place(stamp(1033, 50_200)), 50_200 * MS);
    }

    #[test]
    fn a_camera_whose_clock_runs_slow_is_followed() {
        let mut timeline = Timeline::new(true);
        let mut time = 0;
        for second in 0..100 {
            // A thousandth too slow.
            time = timeline.place(stamp(1000 * second, 1001 * second));
        }
        assert!(near(time, 1001 * 99), "{time}");
    }

    #[test]
    fn recorded_streams_of_two_clocks_begin_together() {
        let mut timeline = Timeline::new(false);
        let host = |device: i64| Stamp {
            kind: StreamKind::Depth,
            domain: TimeDomain::SystemTime,
            ..stamp(1_764_000_000_000 + device, 0)
        };
        assert_eq!(timeline.place(stamp(5000, 0)), 0);
        assert_eq!(timeline.place(host(0)), 0);
        assert_eq!(timeline.place(stamp(5033, 0)), 33 * MS);
        assert_eq!(timeline.place(host(33)), 33 * MS);
        // In the next loop, too.
        assert_eq!(timeline.place(Stamp { epoch: 2, ..stamp(5000, 0) }), 66 * MS);
        assert_eq!(timeline.place(Stamp { epoch: 2, ..host(0) }), 66 * MS);
    }

    #[test]
    fn loops_of_a_recording_follow_each_other() {
        let mut timeline = Timeline::new(false);
        let depth = |epoch, device| Stamp { kind: StreamKind::Depth, epoch, ..stamp(device, 0) };
        assert_eq!(timeline.place(stamp(5000, 0)), 0);
        assert_eq!(timeline.place(depth(1, 4999)), 0);
        assert_eq!(timeline.place(stamp(5033, 0)), 33 * MS);
        // The next loop has begun for one stream, and not yet for the other.
        assert_eq!(timeline.place(Stamp { epoch: 2, ..stamp(5000, 0) }), 66 * MS);
        assert_eq!(timeline.place(depth(1, 5033)), 33 * MS);
        assert_eq!(timeline.place(depth(2, 5000)), 66 * MS);
    }
}
