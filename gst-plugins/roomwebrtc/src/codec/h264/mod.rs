//! Parses H.264 access units (ITU-T H.264): whether decoding can start there, parameter sets, and the picture format.

mod bits;
pub(crate) mod nal;
mod sps;

use super::access_unit::{AccessUnit, AccessUnitKind, VideoFormat};
use bits::BitReader;
use nal::{NalUnit, NalUnitType};
use std::collections::BTreeMap;

/// `payloadType` of the recovery point SEI message (table D.2.8).
const RECOVERY_POINT: u32 = 6;
/// The maximum size of a parameter set that is stored. Real ones have less than 100 bytes.
const MAX_PARAMETER_SET: usize = 4096;

/// Reads an access unit in byte-stream format.
pub(crate) fn access_unit(stream: &[u8]) -> AccessUnit<'_> {
    let mut unit = AccessUnit::new(AccessUnitKind::Delta);
    let mut recovery_point = false;
    let mut units = nal::in_byte_stream(stream);
    let mut after_delimiter = false;
    while let Some(nal) = units.next() {
        let is_delimiter = nal.unit_type() == NalUnitType::AccessUnitDelimiter;
        if std::mem::replace(&mut after_delimiter, is_delimiter) {
            unit.insert_at = nal.start;
        }
        match nal.unit_type() {
            NalUnitType::Sps | NalUnitType::Pps => unit.parameter_sets.push(nal.bytes()),
            NalUnitType::Sei => recovery_point |= has_recovery_point(nal.bytes()),
            NalUnitType::IdrSlice => {
                unit.kind = AccessUnitKind::Idr;
                return unit;
            }
            NalUnitType::Slice => {
                let first = slice_type(&nal);
                unit.bidirectional = first == Some(SliceType::B);
                unit.kind = if recovery_point {
                    AccessUnitKind::RecoveryPoint
                } else if first == Some(SliceType::I) && units.all(|nal| is_intra(&nal)) {
                    AccessUnitKind::Intra
                } else {
                    AccessUnitKind::Delta
                };
                return unit;
            }
            NalUnitType::AccessUnitDelimiter | NalUnitType::Other => {}
        }
    }
    unit
}

/// The format that the sequence parameter sets in a unit describe.
pub(crate) fn format(unit: &AccessUnit<'_>) -> Option<VideoFormat> {
    let is_sps = |set: &&&[u8]| set.first().is_some_and(|header| header & 0x1f == 7);
    unit.parameter_sets.iter().find(is_sps).and_then(|set| sps::parse(set.get(1..)?))
}

/// The format in an `AVCDecoderConfigurationRecord`, which is `codec_data` in caps (ISO/IEC 14496-15, 5.3.3.1).
pub(crate) fn format_of_codec_data(record: &[u8]) -> Option<VideoFormat> {
    let length = record.get(6..8)?.iter().fold(0, |length, byte| length * 256 + usize::from(*byte));
    sps::parse(record.get(8..)?.get(..length)?.get(1..)?)
}

/// The size in bytes of the NAL unit lengths, from an `AVCDecoderConfigurationRecord`.
pub(crate) fn length_size(record: &[u8]) -> Option<usize> {
    record.get(4).map(|byte| usize::from(byte & 3) + 1)
}

/// Whether the first slice among `units` begins with the first macroblock of its picture. `None` without a slice.
pub(crate) fn begins_picture<'a>(units: impl Iterator<Item = NalUnit<'a>>) -> Option<bool> {
    let is_slice = |nal: &NalUnit<'_>| matches!(nal.unit_type(), NalUnitType::Slice | NalUnitType::IdrSlice);
    let slice = units.into_iter().find(is_slice)?;
    // first_mb_in_slice is the first element of the slice header.
    Some(BitReader::new(slice.payload()).unsigned() == Some(0))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SliceType {
    P,
    B,
    /// I and SI.
    I,
}

/// `slice_type` (table 7-6): 5 to 9 are 0 to 4 once more.
fn slice_type(nal: &NalUnit<'_>) -> Option<SliceType> {
    let mut header = BitReader::new(nal.payload());
    let _first_macroblock = header.unsigned()?;
    match header.unsigned()? {
        0 | 5 | 3 | 8 => Some(SliceType::P),
        1 | 6 => Some(SliceType::B),
        2 | 7 | 4 | 9 => Some(SliceType::I),
        _ => None,
    }
}

fn is_intra(nal: &NalUnit<'_>) -> bool {
    nal.unit_type() != NalUnitType::Slice || slice_type(nal) == Some(SliceType::I)
}

/// Whether a recovery point is among the messages of an SEI unit (section 7.3.2.3).
fn has_recovery_point(nal: &[u8]) -> bool {
    let mut reader = BitReader::new(nal.get(1..).unwrap_or_default());
    // The trailing bits, 0x80, are a type without a size.
    while let Some(payload_type) = sei_number(&mut reader)
        && let Some(size) = sei_number(&mut reader)
    {
        if payload_type == RECOVERY_POINT {
            return true;
        }
        if (0..size).try_for_each(|_| reader.byte().map(|_| ())).is_none() {
            break;
        }
    }
    false
}

/// `payloadType` or `payloadSize`: bytes are added up until one is not 255.
fn sei_number(reader: &mut BitReader<'_>) -> Option<u32> {
    let mut sum = 0_u32;
    loop {
        let byte = reader.byte()?;
        sum = sum.checked_add(byte.into())?;
        if byte != u8::MAX {
            return Some(sum);
        }
    }
}

/// The latest parameter sets of a stream, for receivers that join later.
#[derive(Debug, Default)]
pub(crate) struct ParameterSets {
    sequence: BTreeMap<u32, Vec<u8>>,
    picture: BTreeMap<u32, Vec<u8>>,
}

impl ParameterSets {
    /// Stores the sets in a unit. Returns whether the sequence parameter sets changed.
    pub(crate) fn remember(&mut self, unit: &AccessUnit<'_>) -> bool {
        let mut changed = false;
        for set in &unit.parameter_sets {
            let Some(payload) = set.get(1..).filter(|_| set.len() <= MAX_PARAMETER_SET) else { continue };
            let is_sequence = set.first().is_some_and(|header| header & 0x1f == 7);
            // The id follows three other bytes in an SPS, and is first in a PPS.
            let (sets, limit, id) = if is_sequence {
                (&mut self.sequence, 32, payload.get(3..).unwrap_or_default())
            } else {
                (&mut self.picture, 256, payload)
            };
            let id = BitReader::new(id).unsigned();
            let Some(id) = id.filter(|id| *id < limit) else { continue };
            if sets.get(&id).is_none_or(|old| old != set) {
                sets.insert(id, set.to_vec());
                changed |= is_sequence;
            }
        }
        changed
    }

    /// All sets in byte-stream format; empty if none were stored.
    pub(crate) fn byte_stream(&self) -> Vec<u8> {
        if self.sequence.is_empty() || self.picture.is_empty() {
            return Vec::new();
        }
        let sets = self.sequence.values().chain(self.picture.values());
        sets.flat_map(|set| [0, 0, 0, 1].into_iter().chain(set.iter().copied())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte stream of these NAL units.
    fn stream(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect()
    }

    const DELIMITER: &[u8] = &[9, 0xf0];
    /// 320x240, constrained baseline.
    const SPS: &[u8] = &[0x67, 66, 0xc0, 13, 0xda, 0x05, 0x07, 0xe4];
    const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
    const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00, 0x33];
    /// first_mb_in_slice 0, slice_type 7, 5, 6: 1 0001000, 1 00110, 1 00111.
    const I: &[u8] = &[0x41, 0x88, 0x80];
    const P: &[u8] = &[0x41, 0x9a, 0x80];
    const B: &[u8] = &[0x01, 0x9e, 0x80];
    const RECOVERY: &[u8] = &[0x06, 6, 1, 0xc4, 0x80];
    const BUFFERING_AND_RECOVERY: &[u8] = &[0x06, 0, 2, 0xff, 6, 6, 1, 0xc4, 0x80];
    const USER_DATA: &[u8] = &[0x06, 5, 3, 6, 6, 6, 0x80];

    fn kind(units: &[&[u8]]) -> AccessUnitKind {
        access_unit(&stream(units)).kind
    }

    #[test]
    fn the_kind_is_that_of_the_slices_and_of_the_recovery_point() {
        assert_eq!(kind(&[DELIMITER, SPS, PPS, IDR]), AccessUnitKind::Idr);
        assert_eq!(kind(&[IDR]), AccessUnitKind::Idr, "parameter sets may be out of band");
        assert_eq!(kind(&[RECOVERY, IDR]), AccessUnitKind::Idr);
        assert_eq!(kind(&[SPS, PPS, RECOVERY, P]), AccessUnitKind::RecoveryPoint);
        assert_eq!(kind(&[BUFFERING_AND_RECOVERY, I]), AccessUnitKind::RecoveryPoint);
        assert_eq!(kind(&[USER_DATA, P]), AccessUnitKind::Delta, "another message with the bytes of one");
        assert_eq!(kind(&[SPS, PPS, I, I]), AccessUnitKind::Intra);
        assert_eq!(kind(&[I, P]), AccessUnitKind::Delta, "one intra slice refreshes a part of the picture");
        assert_eq!(kind(&[P, I]), AccessUnitKind::Delta);
        assert_eq!(kind(&[DELIMITER, SPS, PPS]), AccessUnitKind::Delta, "no picture");
        assert_eq!(kind(&[]), AccessUnitKind::Delta);
    }

    #[test]
    fn b_slices_are_recognized() {
        assert!(access_unit(&stream(&[DELIMITER, B])).bidirectional);
        for other in [I, P, IDR] {
            assert!(!access_unit(&stream(&[DELIMITER, other])).bidirectional, "{other:?}");
        }
    }

    #[test]
    fn parameter_sets_are_remembered_by_their_ids_and_come_first() {
        let mut sets = ParameterSets::default();
        let start = stream(&[DELIMITER, SPS, PPS, IDR]);
        let start = access_unit(&start);
        assert_eq!(start.parameter_sets, [SPS, PPS]);
        assert!(sets.byte_stream().is_empty());
        assert!(sets.remember(&start));
        assert!(!sets.remember(&start), "the same once more");
        assert!(!sets.remember(&access_unit(&stream(&[P]))));
        assert_eq!(sets.byte_stream(), stream(&[SPS, PPS]));

        let other_pps = [0x68, 0x5c, 0x3c, 0x80];
        assert!(!sets.remember(&access_unit(&stream(&[&other_pps, P]))), "only the picture parameter sets");
        assert_eq!(sets.byte_stream(), stream(&[SPS, PPS, &other_pps]));
    }

    #[test]
    fn parameter_sets_that_are_too_long_or_have_an_impossible_id_are_not_remembered() {
        let mut sets = ParameterSets::default();
        let long = [SPS, &[1; MAX_PARAMETER_SET]].concat();
        let id_32 = [0x67, 66, 0xc0, 13, 0b0000_0100, 0b0010_1111];
        for set in [&long[..], &id_32, &[0x67], &[0x68, 0]] {
            assert!(!sets.remember(&access_unit(&stream(&[set, P]))), "{} bytes", set.len());
        }
        assert!(sets.byte_stream().is_empty());
    }

    #[test]
    fn parameter_sets_are_inserted_after_the_delimiter() {
        assert_eq!(access_unit(&stream(&[DELIMITER, P])).insert_at, 6 + 1);
        assert_eq!(access_unit(&stream(&[P])).insert_at, 0);
    }

    #[test]
    fn codec_data_contains_the_format_and_the_size_of_lengths() {
        let record = [&[1, 66, 0xc0, 13, 0xff, 0xe1, 0, 8][..], SPS, &[1, 0, 4], PPS].concat();
        let format = format_of_codec_data(&record).expect("a format");
        assert_eq!((format.width, format.height, format.profile), (320, 240, "constrained-baseline"));
        assert_eq!(format_of_codec_data(record.get(..12).unwrap_or_default()), None);
        assert_eq!(length_size(&record), Some(4));
        assert_eq!(length_size(&[]), None);
    }

    #[test]
    fn a_unit_without_its_first_slice_is_not_the_start_of_a_picture() {
        let begins = |units: &[&[u8]]| begins_picture(nal::in_byte_stream(&stream(units)));
        assert_eq!(begins(&[SPS, IDR]), Some(true));
        assert_eq!(begins(&[SPS, &[0x65, 0x48]]), Some(false));
        assert_eq!(begins(&[&[0x65]]), Some(false));
        assert_eq!(begins(&[SPS, PPS]), None);
    }
}
