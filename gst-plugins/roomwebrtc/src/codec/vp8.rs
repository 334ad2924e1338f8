//! VP8 frames (RFC 6386, section 9.1).

use super::access_unit::{AccessUnit, AccessUnitKind, Chroma, VideoFormat};

/// Reads a frame.
pub(crate) fn access_unit(frame: &[u8]) -> AccessUnit<'_> {
    // The frame tag begins with the inverse key frame flag.
    let is_key = frame.first().is_some_and(|tag| tag & 1 == 0) && frame.get(3..6) == Some(&START_CODE);
    AccessUnit::new(if is_key { AccessUnitKind::Idr } else { AccessUnitKind::Delta })
}

/// The format that a key frame describes; `None` for other frames.
pub(crate) fn format(frame: &[u8]) -> Option<VideoFormat> {
    if access_unit(frame).kind != AccessUnitKind::Idr {
        return None;
    }
    let profile = match (frame.first()? >> 1) & 7 {
        0 => "0",
        1 => "1",
        2 => "2",
        _ => "3",
    };
    // 14 bits of size and 2 of scaling, which is up to the player.
    let size = |at: usize| {
        let bytes = frame.get(at..at + 2)?;
        Some(bytes.iter().rev().fold(0, |size, byte| (size << 8) | u32::from(*byte)) & 0x3fff)
    };
    Some(VideoFormat {
        profile,
        chroma: Chroma::Yuv420,
        bit_depth: 8,
        width: size(6)?,
        height: size(8)?,
        interlaced: false,
        frame_rate: None,
    })
}

const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_frame_has_a_size() {
        let frame = [0x50, 0x2b, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x40, 7];
        assert_eq!(access_unit(&frame).kind, AccessUnitKind::Idr);
        let format = format(&frame).expect("a format");
        assert_eq!((format.width, format.height, format.profile), (320, 240, "0"));
    }

    #[test]
    fn other_frames_are_deltas() {
        for frame in [&[0x51, 0x2b, 0][..], &[0x50, 0x2b, 0x00, 1, 2, 3], &[0x50], &[]] {
            assert_eq!(access_unit(frame).kind, AccessUnitKind::Delta, "{frame:?}");
            assert_eq!(format(frame), None);
        }
        assert_eq!(format(&[0, 0, 0, 0x9d, 0x01, 0x2a, 1]), None, "cut off");
    }
}
