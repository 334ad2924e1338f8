//! The subset of WebSocket frames (RFC 6455) that a load generator needs: it writes text and pongs, and reads the frames of
//! servers. A frame is made once and written many times, so that the generator costs little.

use anyhow::{Result, bail};
use std::rc::Rc;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The value of the length field if the length follows in two bytes.
const LONG: u8 = 126;
/// The character before the digits of a time stamp in a payload.
const STAMP: u8 = b'@';
const STAMP_DIGITS: usize = 16;

/// A frame of a client. Its mask is 0: servers accept that, and the generator has nothing to compute.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    bytes: Rc<[u8]>,
    stamp_at: Option<usize>,
}

impl Frame {
    pub(crate) fn text(payload: &str) -> Self {
        Self::new(TEXT, payload.as_bytes())
    }

    pub(crate) fn pong(payload: &[u8]) -> Self {
        Self::new(PONG, payload)
    }

    /// Bytes that are not a frame: the HTTP request before all frames.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), stamp_at: None }
    }

    fn new(opcode: u8, payload: &[u8]) -> Self {
        let mut bytes = vec![0x80 | opcode];
        match payload.len() {
            length @ 0..=125 => bytes.push(0x80 | u8::try_from(length).unwrap_or_default()),
            length => {
                bytes.push(0x80 | LONG);
                let length = u16::try_from(length).expect("no frame here is longer than 64 KiB");
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        let stamp_at = memchr::memchr(STAMP, payload).map(|at| bytes.len() + at + 1);
        bytes.extend(payload);
        Self { bytes: bytes.into(), stamp_at }
    }

    /// The same frame with a number in place of the [`placeholder`].
    pub(crate) fn stamped(&self, number: u64) -> Self {
        let mut bytes = self.bytes.to_vec();
        if let Some(at) = self.stamp_at {
            bytes[at..at + STAMP_DIGITS].copy_from_slice(format!("{number:016x}").as_bytes());
        }
        Self { bytes: bytes.into(), stamp_at: self.stamp_at }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The text that [`Frame::stamped`] replaces.
pub(crate) fn placeholder() -> String {
    format!("{}{:016x}", char::from(STAMP), 0)
}

/// The time stamp in a payload.
pub(crate) fn stamp(payload: &[u8]) -> Option<u64> {
    let at = memchr::memchr(STAMP, payload)? + 1;
    let digits = std::str::from_utf8(payload.get(at..at + STAMP_DIGITS)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// A frame of a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Close,
}

/// The first frame in `bytes`, and its length. `None`: it is not complete yet. No server here fragments messages.
pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Received<'_>, usize)>> {
    let [head, length, rest @ ..] = bytes else { return Ok(None) };
    let (length, start) = match (length, rest) {
        (&LONG, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
        (127, [eight @ .., _]) if eight.len() >= 8 => {
            let bytes = eight.first_chunk::<8>().copied().unwrap_or_default();
            (usize::try_from(u64::from_be_bytes(bytes))?, 10)
        }
        (&LONG | 127, _) => return Ok(None),
        (length, _) => (usize::from(*length), 2),
    };
    let Some(payload) = bytes.get(start..start + length) else { return Ok(None) };
    let received = match head & 0x0f {
        TEXT => Received::Text(payload),
        PING => Received::Ping(payload),
        CLOSE => Received::Close,
        other => bail!("a frame of an unexpected kind: {other:#x}"),
    };
    Ok(Some((received, start + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_can_be_read_back() {
        let frame = Frame::text(&format!("{{\"sdp\":\"s={}\"}}", placeholder())).stamped(0x1234);
        assert_eq!(&frame.bytes()[..2], [0x81, 0x80 | 0x1d]);
        assert_eq!(stamp(&frame.bytes()[6..]), Some(0x1234));
        assert_eq!(stamp(b"@12"), None);
    }

    #[test]
    fn frames_of_each_length_are_read() {
        let long = [&[0x81, 126, 1, 0][..], &[b'x'; 256]].concat();
        let very_long = [&[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &vec![b'x'; 65_536]].concat();
        for whole in [&[0x81, 2, b'o', b'k'][..], &long, &very_long] {
            for part in 0..whole.len().min(300) {
                assert_eq!(first(&whole[..part]).unwrap(), None);
            }
            let bytes = [whole, b"\x89"].concat();
            let Some((Received::Text(payload), used)) = first(&bytes).unwrap() else { panic!("no frame") };
            assert_eq!((used, payload.last()), (whole.len(), whole.last()));
        }
        assert_eq!(first(b"\x88\x02\x03\xe8").unwrap(), Some((Received::Close, 4)));
        assert!(first(b"\x82\x00").is_err());
    }
}
