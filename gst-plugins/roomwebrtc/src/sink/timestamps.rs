//! Generates timestamps for raw byte streams: a .h264 file, or a camera program that writes into a pipe.
//!
//! A file is paced by the frame rate of its parameter sets or its caps. A pipe is not paced, because a camera may be faster
//! than the frame rate that its stream declares, and the delay would grow. GStreamer does not distinguish the two: neither
//! is a live source. A pipe that delivers data much faster than the frame rate is treated as a file.

use super::upstream;
use crate::sync::lock;
use gst::{ClockTime, prelude::*};
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// How much data a pipe may contain when the sink starts: 64 KiB on Linux, and the buffers of source and parser.
const PIPE: usize = 80 * 1024;
/// The number of units over which the pace of a pipe is measured.
const MEASURED: usize = 8;
/// A pipe that is faster than the frame rate by this factor is treated as a file.
const FASTEST: u64 = 4;
/// The frame rate of a stream that declares none.
const DEFAULT_RATE: u64 = 25;

/// The pace of a stream without timestamps, in running time. A value; `now` is an argument.
#[derive(Debug)]
struct Pace {
    frame: ClockTime,
    mode: Mode,
    last: Option<ClockTime>,
}

#[derive(Debug)]
enum Mode {
    /// Each unit is due one frame after the previous one.
    Paced,
    /// Each unit is due when it arrives.
    AsItArrives,
    /// The pace of a pipe is being measured. Each unit is due when it arrives.
    Measuring { bytes: usize, arrivals: Vec<ClockTime> },
}

impl Pace {
    fn new(frame: ClockTime, can_seek: bool) -> Self {
        let mode = if can_seek { Mode::Paced } else { Mode::Measuring { bytes: 0, arrivals: Vec::new() } };
        Self { frame, mode, last: None }
    }

    fn is_paced(&self) -> bool {
        matches!(self.mode, Mode::Paced)
    }

    /// When the next unit, of `size` bytes, is due.
    fn next(&mut self, size: usize, now: ClockTime) -> ClockTime {
        if let Mode::Measuring { bytes, arrivals } = &mut self.mode {
            *bytes = bytes.saturating_add(size);
            if arrivals.len() == MEASURED {
                arrivals.remove(0);
            }
            arrivals.push(now);
            let frames = u64::try_from(arrivals.len().saturating_sub(1)).unwrap_or_default();
            let took = now.saturating_sub(arrivals.first().copied().unwrap_or(now));
            if arrivals.len() == MEASURED && took >= self.frame * frames / FASTEST {
                self.mode = Mode::AsItArrives;
            } else if *bytes > PIPE {
                self.mode = Mode::Paced;
            }
        }
        let due = match (&self.mode, self.last) {
            (Mode::Paced, Some(last)) => last + self.frame,
            (Mode::Paced, None) => ClockTime::ZERO,
            (_, Some(last)) => now.max(last + ClockTime::USECOND),
            (_, None) => now,
        };
        self.last = Some(due);
        due
    }
}

/// The generator of one pad.
#[derive(Debug, Default)]
pub(crate) struct TimestampGenerator {
    stream: Mutex<Stream>,
    generates: AtomicBool,
}

#[derive(Debug, Default)]
enum Stream {
    /// No unit has arrived in this segment.
    #[default]
    Unknown,
    /// The first unit had a timestamp. h264parse sets that one even in streams without timestamps.
    First,
    /// The units have timestamps.
    Timed,
    Generated(Pace),
}

impl TimestampGenerator {
    /// Whether the stream has no timestamps of its own.
    pub(crate) fn are_generated(&self) -> bool {
        self.generates.load(Ordering::Relaxed)
    }

    /// Handles SEGMENT.
    pub(crate) fn reset(&self) {
        *lock(&self.stream) = Stream::Unknown;
        self.generates.store(false, Ordering::Relaxed);
    }

    /// Sets the timestamp of `buffer`, which arrives at `sink`, if it has none, and sets whether `sink` waits for it. `pad` is
    /// the pad of the element. Returns a warning to post.
    pub(crate) fn complete(
        &self,
        pad: &gst::Pad,
        sink: &gst_app::AppSink,
        buffer: &mut gst::Buffer,
        now: ClockTime,
    ) -> Option<&'static str> {
        let mut stream = lock(&self.stream);
        let mut warning = None;
        let had_first = matches!(*stream, Stream::First);
        *stream = match std::mem::take(&mut *stream) {
            Stream::Unknown if buffer.pts().is_some() => Stream::First,
            Stream::Unknown | Stream::First if buffer.pts().is_some() || upstream::is_live(pad) => {
                Stream::Timed
            }
            Stream::Unknown | Stream::First => {
                let can_seek = upstream::can_seek(pad);
                let rate = frame_duration(sink, buffer);
                if rate.is_none() && can_seek {
                    warning = Some(NO_RATE);
                }
                self.generates.store(true, Ordering::Relaxed);
                let mut pace = Pace::new(rate.unwrap_or(ClockTime::SECOND / DEFAULT_RATE), can_seek);
                if had_first {
                    pace.next(0, now);
                }
                Stream::Generated(pace)
            }
            known => known,
        };
        let Stream::Generated(pace) = &mut *stream else { return warning };
        let segment = sink.static_pad("sink")?.sticky_event::<gst::event::Segment>(0)?;
        let segment = segment.segment().downcast_ref::<ClockTime>()?;
        let due = pace.next(buffer.size(), now);
        // The times of a paced stream are relative to the start of its segment, those of a pipe to the pipeline's base time.
        let start = segment.to_running_time(segment.start()).unwrap_or_default();
        let running = if pace.is_paced() { start + due } else { start.max(due) };
        buffer.make_mut().set_pts(segment.position_from_running_time(running));
        if sink.property::<bool>("sync") != pace.is_paced() {
            sink.set_sync(pace.is_paced());
        }
        warning
    }
}

const NO_RATE: &str = "the stream has neither timestamps nor a frame rate: it is sent at 25 pictures per second. Put it into a \
    container (mp4, mkv), or set the frame rate behind the parser with \
    `h264parse ! capssetter join=true caps=video/x-h264,framerate=30/1`";

/// The duration of a frame by the caps, in which the parser has put the frame rate of the parameter sets.
fn frame_duration(sink: &gst_app::AppSink, buffer: &gst::BufferRef) -> Option<ClockTime> {
    let caps = sink.static_pad("sink").and_then(|pad| pad.current_caps());
    let rate = caps.and_then(|caps| caps.structure(0)?.get::<gst::Fraction>("framerate").ok());
    let in_caps = rate.filter(|rate| rate.numer() > 0 && rate.denom() > 0).and_then(|rate| {
        let (numerator, denominator) = (rate.numer().unsigned_abs(), rate.denom().unsigned_abs());
        ClockTime::SECOND.mul_div_floor(denominator.into(), numerator.into())
    });
    in_caps.or(buffer.duration()).filter(|frame| !frame.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: ClockTime = ClockTime::MSECOND;
    const FRAME: ClockTime = ClockTime::from_mseconds(40);

    /// When units of 2,000 bytes are due (ms) that arrive at these times (ms).
    fn due(pace: &mut Pace, arrivals: impl IntoIterator<Item = u64>) -> Vec<u64> {
        arrivals.into_iter().map(|at| pace.next(2000, MS * at).mseconds()).collect()
    }

    #[test]
    fn a_file_is_paced_from_its_first_unit() {
        let mut pace = Pace::new(FRAME, true);
        assert_eq!(due(&mut pace, [0, 0, 0, 5, 170]), [0, 40, 80, 120, 160]);
    }

    #[test]
    fn a_camera_that_writes_into_a_pipe_is_never_delayed() {
        let mut pace = Pace::new(FRAME, false);
        // The pipe contained a second of pictures. After that, they arrive at 30/s although the stream declares 25/s.
        due(&mut pace, [3; 30]);
        let arrivals: Vec<u64> = (0..300).map(|n| 3 + 33 * n).collect();
        let times = due(&mut pace, arrivals.clone());
        assert!(!pace.is_paced());
        assert_eq!(times.get(1..), arrivals.get(1..));
    }

    #[test]
    fn a_file_in_a_pipe_is_paced_once_it_is_recognized() {
        let mut pace = Pace::new(FRAME, false);
        let times = due(&mut pace, [3; 60]);
        assert!(pace.is_paced());
        let ahead = times.iter().filter(|at| **at == 3).count();
        assert!((40..45).contains(&ahead), "{ahead} units of 2,000 bytes may have been in the pipe");
        assert!(times.windows(2).skip(ahead).all(|pair| matches!(pair, [a, b] if b - a == 40)), "{times:?}");
    }

    #[test]
    fn units_that_arrive_at_the_same_time_are_still_in_order() {
        let mut pace = Pace::new(FRAME, false);
        let times: Vec<ClockTime> = (0..20).map(|_| pace.next(1, MS)).collect();
        assert!(times.windows(2).all(|pair| matches!(pair, [a, b] if a < b)), "{times:?}");
    }
}
