//! Times for raw byte streams, which carry none: a .h264 file, or a camera program that writes into a pipe.
//!
//! A file is paced by the frame rate of its parameter sets, or of its caps. A pipe is not, because the camera at its other
//! end may be faster than the frame rate that its stream names: pacing would hold it back more and more. Both look alike
//! to GStreamer, because neither is a live source. A pipe out of which data comes at once is a file after all.

use super::upstream;
use gst::{ClockTime, prelude::*};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// What a pipe may hold when the sink starts (64 KiB on Linux, and the buffers of source and parser).
const PIPE: usize = 80 * 1024;
/// Over so many units the pace of a pipe is measured.
const MEASURED: usize = 8;
/// A pipe out of which data comes faster than so many times the frame rate is a file's.
const FASTEST: u64 = 4;
/// The frame rate of a stream that names none.
const DEFAULT_RATE: u64 = 25;

/// The timing of a stream without times, in running time. A value; `now` is an argument.
#[derive(Debug)]
struct Pace {
    frame: ClockTime,
    mode: Mode,
    last: Option<ClockTime>,
}

#[derive(Debug)]
enum Mode {
    /// The source waits: each unit comes a frame after the one before it.
    Paced,
    /// The source does not wait: each unit is due when it arrives.
    AsItArrives,
    /// It is not known yet whether the source waits. Meanwhile units are due when they arrive.
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

    /// When the next unit, of so many bytes, is due.
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

/// The timing of the stream of one pad.
#[derive(Debug, Default)]
pub(crate) struct TimestampGenerator {
    stream: Mutex<Stream>,
    is_untimed: AtomicBool,
}

#[derive(Debug, Default)]
enum Stream {
    /// Nothing has come in this segment.
    #[default]
    Unknown,
    /// The first unit had a time, which h264parse gives to it in any case.
    First,
    /// Units have times of their own.
    Timed,
    Untimed(Pace),
}

impl TimestampGenerator {
    /// Whether the units of the stream came without times.
    pub(crate) fn is_untimed(&self) -> bool {
        self.is_untimed.load(Ordering::Relaxed)
    }

    /// Another segment begins.
    pub(crate) fn reset(&self) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Stream::Unknown;
        self.is_untimed.store(false, Ordering::Relaxed);
    }

    /// Gives `buffer`, which arrives at `sink`, a time if it has none, and decides whether `sink` waits for it. `pad`: the
    /// pad of the element. Returns a warning for the operator.
    pub(crate) fn arrive(
        &self,
        pad: &gst::Pad,
        sink: &gst_app::AppSink,
        buffer: &mut gst::Buffer,
        now: ClockTime,
    ) -> Option<&'static str> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
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
                self.is_untimed.store(true, Ordering::Relaxed);
                let mut pace = Pace::new(rate.unwrap_or(ClockTime::SECOND / DEFAULT_RATE), can_seek);
                if had_first {
                    pace.next(0, now);
                }
                Stream::Untimed(pace)
            }
            known => known,
        };
        let Stream::Untimed(pace) = &mut *stream else { return warning };
        let segment = sink.static_pad("sink")?.sticky_event::<gst::event::Segment>(0)?;
        let segment = segment.segment().downcast_ref::<ClockTime>()?;
        let due = pace.next(buffer.size(), now);
        // A paced stream counts from the start of its segment, a pipe from the start of the pipeline.
        let start = segment.to_running_time(segment.start()).unwrap_or_default();
        let running = if pace.is_paced() { start + due } else { start.max(due) };
        buffer.make_mut().set_pts(segment.position_from_running_time(running));
        if sink.property::<bool>("sync") != pace.is_paced() {
            sink.set_sync(pace.is_paced());
        }
        warning
    }
}

const NO_RATE: &str = "the stream has neither timestamps nor a frame rate: it is sent at 25 pictures a second. Put it into a \
    container (mp4, mkv), or name the frame rate behind the parser with \
    `h264parse ! capssetter join=true caps=video/x-h264,framerate=30/1`";

/// The frame rate in the caps, which is that of the parameter sets unless the user set another.
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

    /// The times of units of 2,000 bytes that arrive at these times.
    fn due(pace: &mut Pace, arrivals: impl IntoIterator<Item = u64>) -> Vec<u64> {
        arrivals.into_iter().map(|at| pace.next(2000, MS * at).mseconds()).collect()
    }

    #[test]
    fn a_file_is_paced_from_its_first_unit() {
        let mut pace = Pace::new(FRAME, true);
        assert_eq!(due(&mut pace, [0, 0, 0, 5, 170]), [0, 40, 80, 120, 160]);
    }

    #[test]
    fn a_camera_at_the_end_of_a_pipe_is_never_held_back() {
        let mut pace = Pace::new(FRAME, false);
        // A second of pictures had been waiting in the pipe; then they come at 30/s, and their header says 25/s.
        due(&mut pace, [3; 30]);
        let arrivals: Vec<u64> = (0..300).map(|n| 3 + 33 * n).collect();
        let times = due(&mut pace, arrivals.clone());
        assert!(!pace.is_paced());
        assert_eq!(times.get(1..), arrivals.get(1..));
    }

    #[test]
    fn a_file_in_a_pipe_is_paced_once_it_is_known_as_one() {
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
