//! NAL units (ITU-T H.264, section 7.3.1) in a byte stream (annex B) or with lengths in front of them (avc).

/// One NAL unit: its header byte and, behind it, everything up to its end. In a byte stream the end is unknown until
/// [`NalUnit::bytes`] searches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NalUnit<'a> {
    /// The offset of the start code or length.
    pub(crate) start: usize,
    /// From the header on; in a byte stream this includes the units that follow.
    from_header: &'a [u8],
    is_byte_stream: bool,
}

/// `nal_unit_type` (table 7-1), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NalUnitType {
    /// A slice, or partition A of one, of a picture that is no IDR picture.
    Slice,
    /// A slice of an IDR picture.
    IdrSlice,
    /// Supplemental enhancement information.
    Sei,
    /// Sequence parameter set.
    Sps,
    /// Picture parameter set.
    Pps,
    /// Access unit delimiter.
    AccessUnitDelimiter,
    Other,
}

impl<'a> NalUnit<'a> {
    /// The type in the header.
    pub(crate) fn unit_type(&self) -> NalUnitType {
        match self.from_header.first().map(|header| header & 0x1f) {
            Some(1 | 2) => NalUnitType::Slice,
            Some(5) => NalUnitType::IdrSlice,
            Some(6) => NalUnitType::Sei,
            Some(7) => NalUnitType::Sps,
            Some(8) => NalUnitType::Pps,
            Some(9) => NalUnitType::AccessUnitDelimiter,
            _ => NalUnitType::Other,
        }
    }

    /// The bytes after the header. In a byte stream these may extend into the next unit, but a parser stops before it.
    pub(crate) fn payload(&self) -> &'a [u8] {
        self.from_header.get(1..).unwrap_or_default()
    }

    /// Exactly this unit, header included.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        let next = if self.is_byte_stream { find_start_code(self.from_header) } else { None };
        let end = next.unwrap_or(self.from_header.len());
        let unit = self.from_header.get(..end).unwrap_or_default();
        // trailing_zero_8bits, and the zero_byte of the next start code.
        let trailing = unit.iter().rev().take_while(|byte| **byte == 0).count();
        unit.get(..unit.len() - trailing).unwrap_or_default()
    }
}

/// The NAL units of a byte stream (annex B). The search is lazy.
pub(crate) fn in_byte_stream(stream: &[u8]) -> impl Iterator<Item = NalUnit<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + find_start_code(stream.get(at..)?)?;
        at = start + 3;
        Some(NalUnit { start, from_header: stream.get(at..)?, is_byte_stream: true })
    })
}

/// The NAL units of `data`, each with a length of `length_size` bytes in front of it (ISO/IEC 14496-15).
pub(crate) fn with_lengths(data: &[u8], length_size: usize) -> impl Iterator<Item = NalUnit<'_>> {
    let mut at = 0_usize;
    std::iter::from_fn(move || {
        let start = at;
        let header = start.checked_add(length_size)?;
        let length = data
            .get(start..header)?
            .iter()
            .try_fold(0_usize, |length, byte| length.checked_mul(256)?.checked_add(usize::from(*byte)))?;
        at = header.checked_add(length)?;
        // An empty unit would never end.
        (at > start).then_some(())?;
        Some(NalUnit { start, from_header: data.get(header..at)?, is_byte_stream: false })
    })
}

/// The offset of the first `start_code_prefix_one_3bytes`.
fn find_start_code(stream: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let one = from + stream.get(from + 2..)?.iter().position(|byte| *byte == 1)?;
        if stream.get(one..one + 2)? == [0, 0] {
            return Some(one);
        }
        from = one + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units<'a>(units: impl Iterator<Item = NalUnit<'a>>) -> Vec<(usize, Vec<u8>)> {
        units.map(|unit| (unit.start, unit.bytes().to_vec())).collect()
    }

    #[test]
    fn units_of_a_byte_stream_begin_at_start_codes_and_end_before_zeros() {
        let stream = [0, 0, 0, 1, 0x67, 9, 1, 0, 0, 1, 0x68, 0, 1, 0, 0, 0, 0, 1, 0x65, 7, 0, 0];
        let expected = [(1, vec![0x67, 9, 1]), (7, vec![0x68, 0, 1]), (15, vec![0x65, 7])];
        assert_eq!(units(in_byte_stream(&stream)), expected);
        for empty in [&[][..], &[0], &[0, 0], &[0, 1, 0], &[1, 1, 1, 1]] {
            assert_eq!(in_byte_stream(empty).count(), 0, "{empty:?}");
        }
        assert_eq!(units(in_byte_stream(&[0, 0, 1])), [(0, vec![])]);
    }

    #[test]
    fn units_with_lengths_may_contain_a_start_code() {
        let data = [0, 0, 1, 2, 0x65, 0x88, 0, 0, 1, 0x41];
        assert_eq!(with_lengths(&data, 4).count(), 0, "a length that is longer than the data");
        let data = [0, 0, 0, 5, 0x65, 0, 0, 1, 0x88, 0, 0, 0, 1, 0x41];
        assert_eq!(units(with_lengths(&data, 4)), [(0, vec![0x65, 0, 0, 1, 0x88]), (9, vec![0x41])]);
        assert_eq!(units(with_lengths(&[2, 0x41, 1, 1, 0x41], 1)), [(0, vec![0x41, 1]), (3, vec![0x41])]);
        assert_eq!(with_lengths(&[1, 2, 3], 0).count(), 0);
    }

    #[test]
    fn types_are_those_of_table_7_1() {
        let kind = |header| in_byte_stream(&[0, 0, 1, header]).map(|unit| unit.unit_type()).next();
        assert_eq!(kind(0x41), Some(NalUnitType::Slice));
        assert_eq!(kind(0x65), Some(NalUnitType::IdrSlice));
        assert_eq!(kind(0x06), Some(NalUnitType::Sei));
        assert_eq!(kind(0x67), Some(NalUnitType::Sps));
        assert_eq!(kind(0x68), Some(NalUnitType::Pps));
        assert_eq!(kind(0x09), Some(NalUnitType::AccessUnitDelimiter));
        assert_eq!(kind(0x0c), Some(NalUnitType::Other));
    }
}
