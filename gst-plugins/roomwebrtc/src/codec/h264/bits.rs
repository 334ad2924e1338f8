//! Reads bits and Exp-Golomb codes from a NAL unit (ITU-T H.264, sections 7.2 and 9.1).

/// Reads a raw byte sequence payload, without the emulation prevention bytes of the NAL unit.
pub(super) struct BitReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    /// The current byte and how many of its bits are left.
    byte: u8,
    left: u32,
    /// The number of successive zero bytes.
    zeros: u32,
}

impl<'a> BitReader<'a> {
    /// Reads the bytes after the header of a NAL unit.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter(), byte: 0, left: 0, zeros: 0 }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let mut byte = *self.bytes.next()?;
        if self.zeros >= 2 && byte == 3 {
            // emulation_prevention_three_byte
            self.zeros = 0;
            byte = *self.bytes.next()?;
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        Some(byte)
    }

    /// One bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.byte = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some((self.byte >> self.left) & 1 == 1)
    }

    /// `u(n)`, most significant bit first; `None` above 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        if count > 32 {
            return None;
        }
        (0..count).try_fold(0_u32, |value, _| Some((value << 1) | u32::from(self.flag()?)))
    }

    /// `u(8)`.
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.bits(8).and_then(|byte| u8::try_from(byte).ok())
    }

    /// `ue(v)`.
    pub(super) fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let rest = self.bits(zeros)?;
        Some((1_u32 << zeros) - 1 + rest)
    }

    /// `se(v)`.
    pub(super) fn signed(&mut self) -> Option<i32> {
        let code = i64::from(self.unsigned()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { magnitude } else { -magnitude }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_those_of_table_9_2() {
        // 1 | 010 | 011 | 00100 | 00101 | 00110 and padding
        let mut reader = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1001_1000]);
        let codes: Vec<_> = (0..6).map_while(|_| reader.unsigned()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
        let mut reader = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1001_1000]);
        let codes: Vec<_> = (0..6).map_while(|_| reader.signed()).collect();
        assert_eq!(codes, [0, 1, -1, 2, -2, 3]);
    }

    #[test]
    fn emulation_prevention_bytes_are_skipped() {
        let mut reader = BitReader::new(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3, 2, 3]);
        let bytes: Vec<_> = (0..9).map_while(|_| reader.byte()).collect();
        assert_eq!(bytes, [0, 0, 1, 0, 0, 0, 0, 2, 3]);
    }

    #[test]
    fn a_truncated_code_has_no_value() {
        assert_eq!(BitReader::new(&[]).flag(), None);
        assert_eq!(BitReader::new(&[0]).unsigned(), None);
        assert_eq!(BitReader::new(&[0, 0, 0, 0, 0, 0xff, 0xff]).unsigned(), None, "more than 32 bits");
        assert_eq!(BitReader::new(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).unsigned(), Some(0xffff_fffe));
        assert_eq!(BitReader::new(&[0xff; 8]).bits(33), None);
    }
}
