//! Puts H.264 access units together again that rtph264depay has cut in two.
//!
//! rtph264pay with `config-interval=-1`, which is what most GStreamer senders use, writes parameter sets before each
//! slice of an IDR picture. rtph264depay takes them for the beginning of the next access unit; and so a keyframe of an
//! encoder with several slices (x264enc with tune=zerolatency) would come out as two units, neither of which is a
//! picture. What belongs together has one timestamp, and only the last part carries the marker (RFC 6184, section 5.1).

use gst::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Joins what comes out of `pad`, byte-stream access units from rtph264depay.
pub(super) fn join(pad: &gst::Pad) {
    let joiner = Mutex::new(Joiner::default());
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(gst::PadProbeData::Buffer(buffer)) = info.data.take() else {
            return gst::PadProbeReturn::Ok;
        };
        match joiner.lock().unwrap_or_else(PoisonError::into_inner).take(buffer) {
            Some(whole) => {
                info.data = Some(gst::PadProbeData::Buffer(whole));
                gst::PadProbeReturn::Ok
            }
            None => gst::PadProbeReturn::Handled,
        }
    });
}

/// The parts of a unit that isn't complete yet.
#[derive(Default)]
struct Joiner {
    held: Option<gst::Buffer>,
    /// Something was dropped, and the next unit has to say so.
    lost: bool,
}

impl Joiner {
    /// Takes the next part; gives a whole unit when there is one.
    fn take(&mut self, part: gst::Buffer) -> Option<gst::Buffer> {
        let broken = part.flags().contains(gst::BufferFlags::DISCONT);
        let finished = match self.held.take() {
            // The rest of what was held is lost.
            Some(_) if broken => None,
            Some(held) if held.pts() == part.pts() => return self.hold(appended(held, &part)),
            // A sender that sets no markers: the next unit shows that this one is complete.
            held => held,
        };
        let mut unit = part;
        if !unit.map_readable().is_ok_and(|map| begins_picture(&map)) {
            self.lost = true;
            return finished;
        }
        if std::mem::take(&mut self.lost) {
            unit.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        if finished.is_some() {
            self.held = Some(unit);
            return finished;
        }
        self.hold(unit)
    }

    /// Keeps a unit that is not complete.
    fn hold(&mut self, unit: gst::Buffer) -> Option<gst::Buffer> {
        if unit.flags().contains(gst::BufferFlags::MARKER) {
            return Some(unit);
        }
        self.held = Some(unit);
        None
    }
}

/// `unit` with the slices of `part`. Shares the memory of both.
fn appended(mut unit: gst::Buffer, part: &gst::Buffer) -> gst::Buffer {
    let start = part.map_readable().map_or(0, |map| first_slice(&map));
    let Ok(slices) = part.copy_region(gst::BufferCopyFlags::MEMORY, start..) else { return unit };
    let head = unit.make_mut();
    for memory in slices.iter_memories_owned() {
        head.append_memory(memory);
    }
    let flags = part.flags() & gst::BufferFlags::MARKER;
    head.set_flags(flags);
    // A unit with an IDR slice in any part is a keyframe.
    if !part.flags().contains(gst::BufferFlags::DELTA_UNIT) {
        head.unset_flags(gst::BufferFlags::DELTA_UNIT);
    }
    unit
}

/// Where the first slice begins: what comes before it repeats what the unit has already. 0 where there is none.
fn first_slice(stream: &[u8]) -> usize {
    slice_header(stream).map_or(0, |header| {
        // Start codes may have a zero more in front.
        let code = header.saturating_sub(3);
        let long = code.checked_sub(1).is_some_and(|before| stream.get(before) == Some(&0));
        if long { code - 1 } else { code }
    })
}

/// Whether the first slice is the first one of its picture: its header begins with first_mb_in_slice, and the
/// Exp-Golomb code of 0 is a single bit (ITU-T H.264, sections 7.3.3 and 9.1). What has no slice begins one, too.
fn begins_picture(stream: &[u8]) -> bool {
    slice_header(stream).is_none_or(|header| stream.get(header + 1).is_some_and(|bits| bits & 0x80 != 0))
}

/// The position of the first NAL unit header of a slice (types 1 to 5, ITU-T H.264, table 7-1).
fn slice_header(stream: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let code = stream.get(at..)?.windows(3).position(|code| code == [0, 0, 1])?;
        let header = at + code + 3;
        if matches!(stream.get(header)? & 0x1f, 1..=5) {
            return Some(header);
        }
        at = header;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUD: &[u8] = &[0, 0, 0, 1, 9, 0xf0];
    const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 1, 2];
    const PPS: &[u8] = &[0, 0, 1, 0x68, 3];
    const IDR: &[u8] = &[0, 0, 0, 1, 0x65, 0x84, 5, 6];
    const DELTA: &[u8] = &[0, 0, 1, 0x41, 0x87];
    /// Further slices of a picture.
    const MORE_IDR: &[u8] = &[0, 0, 0, 1, 0x65, 0x44, 5, 6];
    const MORE_DELTA: &[u8] = &[0, 0, 1, 0x41, 0x47];

    fn part(pts: u64, nals: &[&[u8]], flags: gst::BufferFlags) -> gst::Buffer {
        gst::init().expect("GStreamer");
        let mut buffer = gst::Buffer::from_slice(nals.concat());
        let head = buffer.make_mut();
        head.set_pts(gst::ClockTime::from_mseconds(pts));
        head.set_flags(flags);
        buffer
    }

    fn bytes(buffer: Option<gst::Buffer>) -> Vec<u8> {
        buffer.expect("a unit").map_readable().expect("memory").to_vec()
    }

    #[test]
    fn the_slices_of_a_keyframe_come_together_and_repetitions_go() {
        let mut joiner = Joiner::default();
        let none = gst::BufferFlags::empty();
        assert!(joiner.take(part(1, &[AUD, SPS, PPS, IDR], none)).is_none());
        assert!(joiner.take(part(1, &[SPS, PPS, MORE_IDR], none)).is_none());
        let rest = part(1, &[SPS, PPS, MORE_DELTA, MORE_IDR], gst::BufferFlags::MARKER);
        let whole = joiner.take(rest).expect("a unit");
        assert!(whole.flags().contains(gst::BufferFlags::MARKER));
        assert!(!whole.flags().contains(gst::BufferFlags::DELTA_UNIT));
        assert_eq!(bytes(Some(whole)), [AUD, SPS, PPS, IDR, MORE_IDR, MORE_DELTA, MORE_IDR].concat());
        let delta = gst::BufferFlags::MARKER | gst::BufferFlags::DELTA_UNIT;
        assert_eq!(bytes(joiner.take(part(2, &[DELTA], delta))), DELTA);
    }

    #[test]
    fn what_lost_its_end_is_dropped() {
        let mut joiner = Joiner::default();
        assert!(joiner.take(part(1, &[SPS, PPS, IDR], gst::BufferFlags::empty())).is_none());
        let next = part(2, &[DELTA], gst::BufferFlags::DISCONT | gst::BufferFlags::MARKER);
        let next = joiner.take(next).expect("a unit");
        assert!(next.flags().contains(gst::BufferFlags::DISCONT));
        assert_eq!(bytes(Some(next)), DELTA);
    }

    #[test]
    fn what_lost_its_beginning_is_dropped_and_the_next_unit_says_so() {
        let mut joiner = Joiner::default();
        let broken = gst::BufferFlags::DISCONT | gst::BufferFlags::MARKER;
        assert!(joiner.take(part(1, &[SPS, PPS, MORE_IDR], broken)).is_none());
        let next = joiner.take(part(2, &[DELTA], gst::BufferFlags::MARKER)).expect("a unit");
        assert!(next.flags().contains(gst::BufferFlags::DISCONT));
        let next = joiner.take(part(3, &[DELTA], gst::BufferFlags::MARKER)).expect("a unit");
        assert!(!next.flags().contains(gst::BufferFlags::DISCONT));
    }

    #[test]
    fn without_markers_a_unit_waits_for_the_next_one() {
        let mut joiner = Joiner::default();
        let none = gst::BufferFlags::empty();
        assert!(joiner.take(part(1, &[IDR], none)).is_none());
        assert_eq!(bytes(joiner.take(part(2, &[DELTA], none))), IDR);
        assert_eq!(bytes(joiner.take(part(3, &[IDR], gst::BufferFlags::MARKER))), DELTA);
        assert_eq!(bytes(joiner.take(part(4, &[DELTA], gst::BufferFlags::MARKER))), IDR);
    }

    #[test]
    fn the_first_slice_is_found_in_whatever_comes() {
        assert_eq!(first_slice(&[SPS, PPS, IDR].concat()), SPS.len() + PPS.len());
        assert_eq!(first_slice(&[SPS, DELTA].concat()), SPS.len());
        assert_eq!(first_slice(DELTA), 0);
        for no_slice in [&[][..], &[0], &[0, 0, 1], SPS, &[0, 0, 0, 0]] {
            assert_eq!(first_slice(no_slice), 0, "{no_slice:?}");
            assert!(begins_picture(no_slice), "{no_slice:?}");
        }
        assert!(begins_picture(&[SPS, IDR].concat()) && begins_picture(DELTA));
        assert!(!begins_picture(&[SPS, MORE_IDR].concat()) && !begins_picture(&[0, 0, 1, 0x65]));
    }

    #[test]
    fn what_gstreamers_own_payloader_cut_is_whole_again() {
        gst::init().expect("GStreamer");
        let line = "videotestsrc num-buffers=4 ! video/x-raw,width=320,height=240 ! \
             x264enc tune=zerolatency threads=4 sliced-threads=true key-int-max=2 ! \
             rtph264pay config-interval=-1 aggregate-mode=zero-latency ! rtph264depay name=depay ! \
             video/x-h264,stream-format=byte-stream,alignment=au ! h264parse ! fakesink name=sink signal-handoffs=true";
        let pipeline = gst::parse::launch(line).expect(line).downcast::<gst::Pipeline>().expect("a pipeline");
        join(&pipeline.by_name("depay").and_then(|depay| depay.static_pad("src")).expect("a pad"));
        let (tell, told) = std::sync::mpsc::channel();
        let sink = pipeline.by_name("sink").expect("a sink");
        sink.connect("handoff", false, move |values| {
            let buffer = values.get(1).and_then(|value| value.get::<gst::Buffer>().ok()).expect("a buffer");
            let slices = buffer.map_readable().expect("memory").windows(4).filter(|at| is_slice(at)).count();
            drop(tell.send((
                buffer.pts().is_some(),
                slices,
                buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
            )));
            None
        });
        pipeline.set_state(gst::State::Playing).expect("playing");
        let units: Vec<_> =
            (0..4).map_while(|_| told.recv_timeout(std::time::Duration::from_secs(20)).ok()).collect();
        pipeline.set_state(gst::State::Null).expect("null");
        let slices = units.first().map_or(0, |unit| unit.1);
        assert!(slices > 1, "the encoder made no slices");
        assert_eq!(units, [false, true, false, true].map(|delta| (true, slices, delta)));
    }

    fn is_slice(at: &[u8]) -> bool {
        matches!(at, [0, 0, 1, header] if matches!(header & 0x1f, 1..=5))
    }
}
