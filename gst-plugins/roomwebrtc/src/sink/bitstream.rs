//! Inspects the access units of a pad: at which ones receivers can start, and why a stream cannot be sent or plays badly. A
//! value, without GStreamer objects.

use super::{
    caps::UnsupportedStream,
    fanout::RandomAccess,
    refresh::{NoIdr, Refresh, RefreshWatch},
    reorder::ReorderWatch,
};
use crate::codec::{
    Codec,
    access_unit::{AccessUnitKind, VideoFormat},
    h264::ParameterSets,
};
use std::time::Instant;

/// The inspector of one pad's stream.
#[derive(Debug)]
pub(crate) struct Bitstream {
    codec: &'static Codec,
    parameter_sets: ParameterSets,
    format: Option<VideoFormat>,
    reorder: ReorderWatch,
    refresh: RefreshWatch,
    warned_of_fields: bool,
}

/// The result for one access unit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Inspected {
    pub(crate) is_idr: bool,
    /// How a waiting receiver starts at this unit. `None` if it cannot.
    pub(crate) random_access: Option<RandomAccess>,
    /// To be posted on the bus.
    pub(crate) warnings: Vec<Warning>,
}

/// A problem of a stream that is sent nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Warning {
    #[error("{0}")]
    NoIdr(NoIdr),
    #[error(
        "the pictures are coded as interlaced, which browsers show with comb-shaped edges or not at all: put \
         `deinterlace` in front of the encoder, or set the camera to progressive"
    )]
    Interlaced,
}

/// The circumstances in which an access unit arrives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The presentation time. `None` in a stream without timestamps.
    pub(crate) pts: Option<gst::ClockTime>,
    /// How many keyframe requests have been sent upstream.
    pub(crate) requests: u64,
    pub(crate) now: Instant,
}

impl Bitstream {
    /// An inspector for a stream that has not begun.
    pub(crate) fn new(codec: &'static Codec) -> Self {
        Self {
            codec,
            parameter_sets: ParameterSets::default(),
            format: None,
            reorder: ReorderWatch::default(),
            refresh: RefreshWatch::default(),
            warned_of_fields: false,
        }
    }

    /// Inspects the next access unit. The error is the reason why the stream cannot be sent.
    pub(crate) fn inspect(&mut self, bytes: &[u8], arrival: Arrival) -> Result<Inspected, UnsupportedStream> {
        let unit = (self.codec.syntax.access_unit)(bytes);
        let mut warnings = Vec::new();
        let new_sets = self.parameter_sets.remember(&unit);
        if new_sets || (self.format.is_none() && unit.kind == AccessUnitKind::Idr) {
            self.format = (self.codec.syntax.format)(&unit, bytes).or(self.format.take());
            self.check_format(&mut warnings)?;
        }
        if self.reorder.is_reordered(arrival.pts, unit.bidirectional) {
            return Err(UnsupportedStream::BFrames);
        }
        let Refresh { is_random_access_point, warning } =
            self.refresh.unit(unit.kind, arrival.requests, arrival.now);
        warnings.extend(warning.map(Warning::NoIdr));
        let random_access = is_random_access_point.then(|| {
            let missing =
                if unit.parameter_sets.is_empty() { self.parameter_sets.byte_stream() } else { Vec::new() };
            if missing.is_empty() {
                RandomAccess::AsIs
            } else {
                RandomAccess::WithParameterSets { parameter_sets: missing, offset: unit.insert_at }
            }
        });
        Ok(Inspected { is_idr: unit.kind == AccessUnitKind::Idr, random_access, warnings })
    }

    /// Handles a flush or a step of the timestamps.
    pub(crate) fn handle_discontinuity(&mut self) {
        self.reorder.handle_discontinuity();
    }

    fn check_format(&mut self, warnings: &mut Vec<Warning>) -> Result<(), UnsupportedStream> {
        let Some(format) = &self.format else { return Ok(()) };
        UnsupportedStream::of_format(self.codec, format).map_or(Ok(()), Err)?;
        if format.interlaced && !self.warned_of_fields {
            self.warned_of_fields = true;
            warnings.push(Warning::Interlaced);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{H264, VP8};
    use gst::ClockTime;
    use std::time::Duration;

    const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 66, 0xc0, 13, 0xda, 0x05, 0x07, 0xe4];
    const PPS: &[u8] = &[0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80];
    const DELIMITER: &[u8] = &[0, 0, 0, 1, 9, 0xf0];
    const IDR: &[u8] = &[0, 0, 0, 1, 0x65, 0x88, 0x84];
    const P: &[u8] = &[0, 0, 0, 1, 0x41, 0x9a, 0x80];
    const B: &[u8] = &[0, 0, 0, 1, 0x01, 0x9e, 0x80];
    const RECOVERY: &[u8] = &[0, 0, 0, 1, 0x06, 6, 1, 0xc4, 0x80];

    /// A stream with thirty units per second.
    struct Stream {
        bitstream: Bitstream,
        start: Instant,
        units: u32,
        requests: u64,
    }

    impl Stream {
        fn new() -> Self {
            Self { bitstream: Bitstream::new(&H264), start: Instant::now(), units: 0, requests: 0 }
        }

        fn unit(&mut self, nal_units: &[&[u8]]) -> Result<Inspected, UnsupportedStream> {
            self.unit_at(self.units, nal_units)
        }

        /// A unit whose presentation time is that of the given frame.
        fn unit_at(&mut self, frame: u32, nal_units: &[&[u8]]) -> Result<Inspected, UnsupportedStream> {
            self.units += 1;
            let arrival = Arrival {
                pts: Some(ClockTime::from_mseconds(33) * u64::from(frame)),
                requests: self.requests,
                now: self.start + Duration::from_millis(33) * self.units,
            };
            self.bitstream.inspect(&nal_units.concat(), arrival)
        }
    }

    fn random_access(inspected: Result<Inspected, UnsupportedStream>) -> Option<RandomAccess> {
        inspected.expect("a unit that can be sent").random_access
    }

    #[test]
    fn receivers_start_at_idr_pictures() {
        let mut stream = Stream::new();
        let first = stream.unit(&[DELIMITER, SPS, PPS, IDR]).expect("an IDR picture");
        assert_eq!(
            first,
            Inspected { is_idr: true, random_access: Some(RandomAccess::AsIs), warnings: vec![] }
        );
        assert_eq!(random_access(stream.unit(&[DELIMITER, P])), None);
        assert_eq!(
            random_access(stream.unit(&[DELIMITER, SPS, PPS, RECOVERY, P])),
            None,
            "an IDR picture may follow"
        );
    }

    #[test]
    fn receivers_get_the_last_parameter_sets_with_an_idr_picture_that_has_none() {
        let mut stream = Stream::new();
        assert!(stream.unit(&[SPS, PPS, IDR]).is_ok());
        let late = random_access(stream.unit(&[DELIMITER, IDR]));
        assert_eq!(
            late,
            Some(RandomAccess::WithParameterSets {
                parameter_sets: [SPS, PPS].concat(),
                offset: DELIMITER.len() + 1
            })
        );
    }

    #[test]
    fn after_an_unanswered_request_receivers_start_at_recovery_points_with_the_last_parameter_sets() {
        let mut stream = Stream::new();
        assert!(stream.unit(&[SPS, PPS, IDR]).is_ok());
        stream.requests = 1;
        for _ in 0..35 {
            assert_eq!(random_access(stream.unit(&[P])), None);
        }
        let late = random_access(stream.unit(&[RECOVERY, P]));
        assert_eq!(
            late,
            Some(RandomAccess::WithParameterSets { parameter_sets: [SPS, PPS].concat(), offset: 0 })
        );
        let mut warnings: Vec<Warning> =
            (0..300).flat_map(|_| stream.unit(&[P]).expect("a unit").warnings).collect();
        assert_eq!(warnings.pop(), Some(Warning::NoIdr(NoIdr::OnlyOtherPoints)));
        assert_eq!(warnings, []);
    }

    #[test]
    fn b_frames_are_refused_but_a_loop_is_not() {
        let mut stream = Stream::new();
        let order: [(u32, &[u8]); 9] =
            [(0, IDR), (3, P), (1, B), (2, B), (6, P), (4, B), (5, B), (9, P), (7, B)];
        let result = order.into_iter().try_for_each(|(at, unit)| stream.unit_at(at, &[unit]).map(|_| ()));
        assert_eq!(result, Err(UnsupportedStream::BFrames));
        let mut stream = Stream::new();
        for _ in 0..10 {
            for at in 0..10 {
                assert!(stream.unit_at(at, &[if at == 0 { IDR } else { P }]).is_ok());
            }
        }
    }

    #[test]
    fn a_change_to_ten_bits_is_refused() {
        // profile_idc 110, id 0, chroma format 1, bit depths 10.
        let ten_bits: &[u8] = &[0, 0, 0, 1, 0x67, 110, 0, 31, 0xa6, 0xcb, 0x40, 0xa0, 0xfc, 0x80];
        let mut stream = Stream::new();
        assert!(stream.unit(&[SPS, PPS, IDR]).is_ok());
        let Err(UnsupportedStream::Profile(text)) = stream.unit(&[ten_bits, PPS, IDR]) else {
            panic!("it was accepted")
        };
        assert!(text.contains("10 bits") && text.contains("high-10"), "{text}");
    }

    #[test]
    fn receivers_start_at_key_frames_of_vp8() {
        let mut bitstream = Bitstream::new(&VP8);
        let arrival = Arrival { pts: None, requests: 0, now: Instant::now() };
        let key = [0x50, 0x2b, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xf0, 0];
        assert_eq!(random_access(bitstream.inspect(&key, arrival)), Some(RandomAccess::AsIs));
        assert_eq!(random_access(bitstream.inspect(&[0x51, 0x2b, 0], arrival)), None);
    }
}
