//! A socket as tungstenite sees it for one turn: it reads through one buffer that all connections share, and what it
//! writes of its own (pongs, the answer to a close) goes into the queue with everything else.
//!
//! An idle connection so keeps no bytes but the 512 of tungstenite's own buffer.

use crate::queue::{Kind, Queue};
use bytes::Bytes;
use std::{
    io::{self, Cursor, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

/// What one read may bring.
const SCRATCH: usize = 64 << 10;

/// The buffer that all connections of the thread read through, each for the time of a turn.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; SCRATCH].into(), start: 0, end: 0 }
    }

    /// Reads once and throws it away. The count is 0 at the end of the stream.
    pub(crate) fn discard<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        let result = self.fill(stream, cx);
        (self.start, self.end) = (0, 0);
        result
    }

    fn fill<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        let mut buffer = ReadBuf::new(&mut self.bytes);
        let result = Pin::new(stream).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        (self.start, self.end) = (0, count);
        result.map_ok(|()| count)
    }

    /// Takes out what the turn did not get to.
    pub(crate) fn take_rest(&mut self) -> Option<Box<Rest>> {
        let rest = &self.bytes[self.start..self.end];
        let rest = (!rest.is_empty()).then(|| Box::new(Rest::new(rest.to_vec())));
        (self.start, self.end) = (0, 0);
        rest
    }

    fn copy_to(&mut self, target: &mut [u8]) -> usize {
        let count = copy(&self.bytes[self.start..self.end], target);
        self.start += count;
        count
    }
}

/// Bytes that were read and wait for their turn.
#[derive(Debug)]
pub(crate) struct Rest {
    bytes: Vec<u8>,
    start: usize,
}

impl Rest {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }
}

fn copy(source: &[u8], target: &mut [u8]) -> usize {
    let count = source.len().min(target.len());
    target[..count].copy_from_slice(&source[..count]);
    count
}

/// One turn of one connection at its socket.
pub(crate) struct Turn<'a, 'cx, S> {
    pub(crate) stream: &'a mut S,
    pub(crate) cx: &'a mut Context<'cx>,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) rest: &'a mut Option<Box<Rest>>,
    pub(crate) meter: &'a mut Meter,
    pub(crate) queue: &'a Queue,
}

impl<S: AsyncRead + Unpin> Read for Turn<'_, '_, S> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let count = if let Some(rest) = self.rest {
            let count = copy(&rest.bytes[rest.start..], target);
            rest.start += count;
            if rest.start == rest.bytes.len() {
                *self.rest = None;
            }
            count
        } else {
            if self.scratch.start == self.scratch.end {
                match self.scratch.fill(self.stream, self.cx) {
                    Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
                    Poll::Ready(result) => result?,
                };
            }
            self.scratch.copy_to(target)
        };
        self.meter.pass(&target[..count]);
        Ok(count)
    }
}

impl<S> Write for Turn<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            // Whoever sends pings and never reads overflows its queue as well; the connection looks after each read.
            self.queue.push(Kind::Framed, Bytes::copy_from_slice(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows the frames that pass, to know when tungstenite holds no part of one and can be made anew: its buffers grow
/// with a large message and never shrink.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// The part of a frame's header that has passed.
    header: [u8; 14],
    header_length: u8,
    /// Bytes of the frame's payload still to come.
    payload: u64,
    /// Between the frames of one message.
    fragmented: bool,
    /// The longest frame since the last [`Meter::restart`].
    longest: u64,
}

impl Meter {
    /// Whether a whole number of messages has passed.
    pub(crate) fn at_rest(&self) -> bool {
        self.header_length == 0 && self.payload == 0 && !self.fragmented
    }

    /// The longest payload since the last [`Meter::restart`].
    pub(crate) fn longest(&self) -> u64 {
        self.longest
    }

    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let count =
                    usize::try_from(self.payload).map_or(bytes.len(), |payload| payload.min(bytes.len()));
                self.payload -= count as u64;
                bytes = &bytes[count..];
            } else {
                bytes = self.pass_header(bytes);
            }
        }
    }

    fn pass_header<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let before = usize::from(self.header_length);
        let count = copy(bytes, &mut self.header[before..]);
        let mut cursor = Cursor::new(&self.header[..before + count]);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                let used = usize::try_from(cursor.position()).unwrap_or(before) - before;
                if let OpCode::Data(Data::Text | Data::Binary | Data::Continue) = header.opcode {
                    self.fragmented = !header.is_final;
                }
                self.payload = length;
                self.longest = self.longest.max(length);
                self.header_length = 0;
                &bytes[used..]
            }
            Ok(None) => {
                self.header_length += u8::try_from(count).unwrap_or_default();
                &bytes[count..]
            }
            // Tungstenite comes to the same end; nothing is read after that.
            Err(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_rests_between_messages_alone() {
        let short = [0x81, 0x83, 1, 2, 3, 4, b'a', b'b', b'c'];
        let long = [&[0x81, 0xfe, 0x02, 0x00, 1, 2, 3, 4][..], &[0; 512]].concat();
        let fragments = [0x01, 0x80, 1, 2, 3, 4, 0x89, 0x80, 1, 2, 3, 4, 0x80, 0x80, 1, 2, 3, 4];
        let ends = [short.len(), short.len() + long.len(), short.len() + long.len() + fragments.len()];
        let bytes = [&short[..], &long, &fragments].concat();
        let mut meter = Meter::default();
        for (index, byte) in bytes.iter().enumerate() {
            meter.pass(&[*byte]);
            assert_eq!(meter.at_rest(), ends.contains(&(index + 1)), "after {} bytes", index + 1);
        }
        assert_eq!(meter.longest(), 512);
        let mut at_once = Meter::default();
        at_once.pass(&bytes);
        assert!(at_once.at_rest());
        assert_eq!(at_once.longest(), 512);
    }
}
