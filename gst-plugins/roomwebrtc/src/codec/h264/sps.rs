//! The sequence parameter set (ITU-T H.264, section 7.3.2.1.1, annex E for the frame rate).

use super::{
    super::access_unit::{Chroma, VideoFormat},
    bits::BitReader,
};

/// Reads the payload of a sequence parameter set; `None` if it is damaged.
pub(crate) fn parse(payload: &[u8]) -> Option<VideoFormat> {
    let mut reader = BitReader::new(payload);
    let profile_idc = reader.byte()?;
    let constraints = reader.byte()?;
    let _level_idc = reader.byte()?;
    let _id = reader.unsigned()?;
    let (chroma, bit_depth) = match profile_idc {
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135 => sampling(&mut reader)?,
        _ => (Chroma::Yuv420, 8),
    };
    skip_picture_order(&mut reader)?;
    let (width, height, interlaced) = size(&mut reader, chroma)?;
    let frame_rate = if reader.flag()? { frame_rate(&mut reader) } else { None };
    let profile = profile_name(profile_idc, constraints);
    Some(VideoFormat { profile, chroma, bit_depth, width, height, interlaced, frame_rate })
}

/// The name in GStreamer's caps. Constraint flags count from the most significant bit.
fn profile_name(profile_idc: u8, constraints: u8) -> &'static str {
    let constraint = |number: u8| (constraints >> (7 - number)) & 1 == 1;
    match profile_idc {
        66 if constraint(1) => "constrained-baseline",
        66 => "baseline",
        77 => "main",
        88 => "extended",
        100 if constraint(4) && constraint(5) => "constrained-high",
        100 if constraint(4) => "progressive-high",
        100 => "high",
        110 => "high-10",
        122 => "high-4:2:2",
        244 => "high-4:4:4",
        44 => "cavlc-4:4:4",
        83 | 86 => "scalable",
        118 | 128 => "multiview",
        _ => "unknown",
    }
}

/// `chroma_format_idc` to the scaling lists.
fn sampling(reader: &mut BitReader<'_>) -> Option<(Chroma, u8)> {
    let format = reader.unsigned()?;
    let chroma = match format {
        0 => Chroma::Monochrome,
        1 => Chroma::Yuv420,
        2 => Chroma::Yuv422,
        3 => Chroma::Yuv444,
        _ => return None,
    };
    if chroma == Chroma::Yuv444 {
        let _separate_color_planes = reader.flag()?;
    }
    let depth = |reader: &mut BitReader<'_>| reader.unsigned().filter(|more| *more <= 6).map(|more| 8 + more);
    let luma = depth(reader)?;
    let chrominance = depth(reader)?;
    let _lossless = reader.flag()?;
    if reader.flag()? {
        for list in 0..if chroma == Chroma::Yuv444 { 12 } else { 8 } {
            if reader.flag()? {
                skip_scaling_list(reader, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some((chroma, u8::try_from(luma.max(chrominance)).ok()?))
}

/// Section 7.3.2.1.1.1.
fn skip_scaling_list(reader: &mut BitReader<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            next = last.wrapping_add(reader.signed()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// `log2_max_frame_num_minus4` to `gaps_in_frame_num_value_allowed_flag`.
fn skip_picture_order(reader: &mut BitReader<'_>) -> Option<()> {
    let _max_frame_num = reader.unsigned()?;
    match reader.unsigned()? {
        0 => {
            let _max_lsb = reader.unsigned()?;
        }
        1 => {
            let _always_zero = reader.flag()?;
            let _non_reference = reader.signed()?;
            let _top_to_bottom = reader.signed()?;
            for _ in 0..reader.unsigned().filter(|count| *count <= 255)? {
                let _reference = reader.signed()?;
            }
        }
        2 => {}
        _ => return None,
    }
    let _references = reader.unsigned()?;
    let _gaps = reader.flag()?;
    Some(())
}

/// Width and height after cropping, and whether pictures may be coded as fields.
fn size(reader: &mut BitReader<'_>, chroma: Chroma) -> Option<(u32, u32, bool)> {
    let width = reader.unsigned()?.checked_add(1)?.checked_mul(16)?;
    let map_units = reader.unsigned()?.checked_add(1)?;
    let interlaced = !reader.flag()?;
    let fields = if interlaced { 2 } else { 1 };
    let height = map_units.checked_mul(fields)?.checked_mul(16)?;
    if interlaced {
        let _adaptive = reader.flag()?;
    }
    let _direct_8x8 = reader.flag()?;
    if !reader.flag()? {
        return Some((width, height, interlaced));
    }
    let (crop_x, crop_y) = match chroma {
        Chroma::Monochrome | Chroma::Yuv444 => (1, fields),
        Chroma::Yuv422 => (2, fields),
        Chroma::Yuv420 => (2, 2 * fields),
    };
    let mut cropped = |unit: u32| reader.unsigned()?.checked_add(reader.unsigned()?)?.checked_mul(unit);
    let (less_width, less_height) = (cropped(crop_x)?, cropped(crop_y)?);
    Some((width.checked_sub(less_width)?, height.checked_sub(less_height)?, interlaced))
}

/// `vui_parameters` up to the timing information (section E.1.1); two ticks are a frame.
fn frame_rate(reader: &mut BitReader<'_>) -> Option<(u32, u32)> {
    /// `aspect_ratio_idc` of an explicit ratio.
    const EXTENDED_SAR: u8 = 255;
    if reader.flag()? && reader.byte()? == EXTENDED_SAR {
        reader.bits(32)?;
    }
    if reader.flag()? {
        let _overscan = reader.flag()?;
    }
    if reader.flag()? {
        let _video_format_and_range = reader.bits(4)?;
        if reader.flag()? {
            let _colors = reader.bits(24)?;
        }
    }
    if reader.flag()? {
        let _chroma_location = (reader.unsigned()?, reader.unsigned()?);
    }
    if !reader.flag()? {
        return None;
    }
    let (ticks, time_scale) = (reader.bits(32)?, reader.bits(32)?);
    let denominator = ticks.checked_mul(2)?;
    (denominator > 0 && time_scale > 0).then_some((time_scale, denominator))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes bits as the standard's tables list them.
    #[derive(Default)]
    struct Bits(Vec<bool>);

    impl Bits {
        fn u(mut self, count: u32, value: u32) -> Self {
            self.0.extend((0..count).rev().map(|bit| (value >> bit) & 1 == 1));
            self
        }

        fn ue(self, value: u32) -> Self {
            let length = (value + 1).ilog2();
            self.u(length, 0).u(length + 1, value + 1)
        }

        fn bytes(self) -> Vec<u8> {
            let byte =
                |bits: &[bool]| (0..8).fold(0, |byte, n| (byte << 1) | u8::from(bits.get(n) == Some(&true)));
            self.u(1, 1).0.chunks(8).map(byte).collect()
        }
    }

    /// Profile, constraint flags, level, id.
    fn start(profile: u32, constraints: u32) -> Bits {
        Bits::default().u(8, profile).u(8, constraints).u(8, 31).ue(0)
    }

    /// Picture order type 2, one reference, and a size in macroblocks.
    fn frames(bits: Bits, columns: u32, rows: u32) -> Bits {
        bits.ue(0).ue(2).ue(1).u(1, 0).ue(columns - 1).ue(rows - 1).u(1, 1).u(1, 1)
    }

    #[test]
    fn a_baseline_set_has_a_size_in_macroblocks_and_no_frame_rate() {
        let set = frames(start(66, 0b0100_0000), 40, 30).u(1, 0).u(1, 0).bytes();
        let format = parse(&set).expect("a set");
        assert_eq!(
            format,
            VideoFormat {
                profile: "constrained-baseline",
                chroma: Chroma::Yuv420,
                bit_depth: 8,
                width: 640,
                height: 480,
                interlaced: false,
                frame_rate: None,
            }
        );
    }

    #[test]
    fn cropping_and_the_frame_rate_are_read() {
        // 1366 x 768: 86 macroblocks, 10 pixels (5 units) less at the right. 30000/1001 pictures a second.
        let cropped = frames(start(77, 0), 86, 48).u(1, 1).ue(0).ue(5).ue(0).ue(0);
        let set = cropped.u(1, 1).u(4, 0).u(1, 1).u(32, 1001).u(32, 60000).u(1, 1).bytes();
        let format = parse(&set).expect("a set");
        assert_eq!((format.width, format.height), (1366, 768));
        assert_eq!((format.profile, format.frame_rate), ("main", Some((60000, 2002))));
    }

    #[test]
    fn chroma_bit_depth_and_scaling_lists_are_read() {
        let high = |format, depth| {
            start(if depth > 0 { 110 } else { 244 }, 0).ue(format).ue(depth).ue(depth).u(1, 0)
        };
        let set = frames(high(1, 2).u(1, 0), 20, 15).u(1, 0).u(1, 0).bytes();
        let format = parse(&set).expect("a set");
        assert_eq!((format.profile, format.bit_depth, format.chroma), ("high-10", 10, Chroma::Yuv420));
        // The first list ends with its first delta, -8; the others are absent.
        let set = frames(high(2, 0).u(1, 1).u(1, 1).ue(16).u(7, 0), 20, 15).u(1, 0).u(1, 0).bytes();
        let format = parse(&set).expect("a set");
        assert_eq!((format.chroma, format.width, format.height), (Chroma::Yuv422, 320, 240));
    }

    #[test]
    fn fields_double_the_height() {
        let set = start(100, 0).ue(1).ue(0).ue(0).u(1, 0).u(1, 0).ue(0).ue(2).ue(1).u(1, 0);
        let set = set.ue(119).ue(33).u(1, 0).u(1, 1).u(1, 1).u(1, 1).ue(0).ue(0).ue(0).ue(2).u(1, 0).bytes();
        let format = parse(&set).expect("a set");
        assert_eq!((format.width, format.height, format.interlaced), (1920, 1080, true));
        assert_eq!(format.profile, "high");
    }

    #[test]
    fn a_set_that_is_cut_off_or_impossible_is_no_format() {
        let whole = frames(start(66, 0), 40, 30).u(1, 0).u(1, 0).bytes();
        for length in 0..whole.len() - 1 {
            assert_eq!(parse(whole.get(..length).unwrap_or_default()), None, "{length} bytes");
        }
        assert_eq!(parse(&start(100, 0).ue(4).bytes()), None, "there is no chroma format 4");
        let too_much = frames(start(66, 0), 1, 1).u(1, 1).ue(9).ue(9).ue(0).ue(0).u(1, 0).bytes();
        assert_eq!(parse(&too_much), None, "nothing is left after cropping");
    }
}
