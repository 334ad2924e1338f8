//! A socket as tungstenite sees it during one turn ([`SocketView`]). Input passes through one buffer that all connections
//! share ([`Scratch`]), so that an idle connection needs no buffer. tungstenite's own frames (pongs, the answer to a close)
//! go into the connection's queue. The [`Meter`] lets frames pass as the throttle permits.

use super::{
    queue::{Kind, Queue},
    throttle::{Rates, Throttle},
};
use bytes::Bytes;
use std::{
    io::{self, Cursor, Read, Write},
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};
use tokio::io::{AsyncRead, ReadBuf};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Data, OpCode},
};

/// The largest number of bytes that one read returns.
const SCRATCH: usize = 64 << 10;

/// The buffer that all connections of the thread read through, each during its turn.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// The number of bytes that were read since the start.
    received: u64,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; SCRATCH].into(), start: 0, end: 0, received: 0 }
    }

    /// The number of bytes that were read since the start.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Reads once and discards the bytes. The count is 0 at the end of the stream.
    pub(crate) fn discard<S>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        let result = self.fill(stream, cx, SCRATCH);
        (self.start, self.end) = (0, 0);
        result
    }

    fn fill<S>(&mut self, stream: &mut S, cx: &mut Context<'_>, window: usize) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        let window = window.min(self.bytes.len());
        let mut buffer = ReadBuf::new(&mut self.bytes[..window]);
        let result = Pin::new(stream).poll_read(cx, &mut buffer);
        let count = buffer.filled().len();
        (self.start, self.end) = (0, count);
        self.received += count as u64;
        result.map_ok(|()| count)
    }

    /// Takes the bytes that the turn left unread.
    pub(crate) fn take_rest(&mut self) -> Option<Box<Rest>> {
        let rest = &self.bytes[self.start..self.end];
        let rest = (!rest.is_empty()).then(|| Box::new(Rest::new(rest.to_vec())));
        (self.start, self.end) = (0, 0);
        rest
    }

    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

/// Bytes that have arrived and are not parsed yet.
#[derive(Debug)]
pub(crate) struct Rest {
    bytes: Vec<u8>,
    start: usize,
}

impl Rest {
    /// The memory that they occupy, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, start: 0 }
    }
}

fn copy(source: &[u8], target: &mut [u8]) -> usize {
    let count = source.len().min(target.len());
    target[..count].copy_from_slice(&source[..count]);
    count
}

/// The socket of one connection during one turn.
pub(crate) struct SocketView<'a, 'cx, S> {
    pub(crate) stream: &'a mut S,
    pub(crate) cx: &'a mut Context<'cx>,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) rest: &'a mut Option<Box<Rest>>,
    pub(crate) meter: &'a mut Meter,
    pub(crate) queue: &'a Queue,
    pub(crate) allowance: Allowance<'a>,
    /// The time at which the next frame, which has already arrived, may be read.
    pub(crate) paused: Option<Instant>,
}

/// The rates that apply during this turn.
pub(crate) struct Allowance<'a> {
    pub(crate) throttle: &'a mut Throttle,
    pub(crate) rates: Rates,
    pub(crate) now: Instant,
    pub(crate) max_fragments: u32,
}

impl<S: AsyncRead + Unpin> Read for SocketView<'_, '_, S> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self.poll_fill() {
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(Ok(false)) => return Ok(0),
            Poll::Ready(Ok(true)) => {}
            Poll::Ready(Err(error)) => return Err(error),
        }
        let unread = match &*self.rest {
            Some(rest) => &rest.bytes[rest.start..],
            None => self.scratch.unread(),
        };
        let offered = &unread[..unread.len().min(target.len())];
        let (count, paused) = self.meter.pass(offered, &mut self.allowance);
        copy(&offered[..count], target);
        let held_back = count == 0 && !offered.is_empty();
        self.advance(count);
        if held_back {
            self.paused = paused;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }
}

impl<S: AsyncRead + Unpin> SocketView<'_, '_, S> {
    /// Reads from the socket if no bytes are left. `false`: the stream has ended.
    pub(crate) fn poll_fill(&mut self) -> Poll<io::Result<bool>> {
        if self.rest.is_some() || !self.scratch.unread().is_empty() {
            return Poll::Ready(Ok(true));
        }
        let Allowance { throttle, rates, now, .. } = &self.allowance;
        let window = throttle.window(*now, rates, SCRATCH);
        self.scratch.fill(self.stream, self.cx, window).map_ok(|count| count > 0)
    }

    fn advance(&mut self, count: usize) {
        match self.rest {
            Some(rest) if rest.start + count == rest.bytes.len() => *self.rest = None,
            Some(rest) => rest.start += count,
            None => self.scratch.start += count,
        }
    }
}

impl<S> Write for SocketView<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            // A peer that sends pings and never reads overflows its queue, too. The connection checks that after each turn.
            self.queue.push(Kind::Framed, Bytes::copy_from_slice(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows the frames that pass. It decides when a frame may begin, and knows how much of an incomplete message
/// tungstenite holds, and since when. Between messages, tungstenite's state is not needed and can be dropped.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// The part of a frame header that has passed.
    header: [u8; 14],
    header_length: u8,
    /// The bytes of the payload that have not passed yet.
    payload: u64,
    /// The number of frames of an incomplete message so far; 0 between messages.
    fragments: u32,
    /// The length of the message so far, including all of the frame that has begun.
    message: u64,
    /// The time at which the message began.
    began: Option<Instant>,
}

impl Meter {
    /// Whether no message is incomplete.
    pub(crate) fn at_rest(&self) -> bool {
        self.header_length == 0 && self.payload == 0 && self.fragments == 0
    }

    /// The time at which the incomplete message began.
    pub(crate) fn incomplete_since(&self) -> Option<Instant> {
        self.began.filter(|_| !self.at_rest())
    }

    /// The bytes that tungstenite holds, or has reserved, for the incomplete message.
    pub(crate) fn incomplete_bytes(&self) -> usize {
        if self.at_rest() { 0 } else { usize::try_from(self.message).unwrap_or(usize::MAX) }
    }

    /// Whether a message consists of more than `max` frames.
    pub(crate) fn has_too_many_fragments(&self, max: u32) -> bool {
        self.fragments > max
    }

    /// The number of bytes that pass: up to the end of a frame, because the cost of its effects is charged before the next
    /// one begins. If a frame may not begin yet, no bytes pass, and the second value is the time when it may.
    fn pass(&mut self, all: &[u8], allowance: &mut Allowance<'_>) -> (usize, Option<Instant>) {
        let mut bytes = all;
        while !bytes.is_empty() {
            if self.payload > 0 {
                let count =
                    usize::try_from(self.payload).map_or(bytes.len(), |payload| payload.min(bytes.len()));
                self.payload -= count as u64;
                bytes = &bytes[count..];
            } else {
                if self.header_length == 0 {
                    if self.has_too_many_fragments(allowance.max_fragments) {
                        break;
                    }
                    if let Err(until) = allowance.throttle.begin(allowance.now, &allowance.rates) {
                        return (0, Some(until));
                    }
                    if self.fragments == 0 {
                        (self.message, self.began) = (0, Some(allowance.now));
                    }
                }
                bytes = self.pass_header(bytes, allowance);
            }
            if self.header_length == 0 && self.payload == 0 {
                break;
            }
        }
        (all.len() - bytes.len(), None)
    }

    fn pass_header<'a>(&mut self, bytes: &'a [u8], allowance: &mut Allowance<'_>) -> &'a [u8] {
        let before = usize::from(self.header_length);
        let count = copy(bytes, &mut self.header[before..]);
        let mut cursor = Cursor::new(&self.header[..before + count]);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                let used = usize::try_from(cursor.position()).unwrap_or(before) - before;
                if let OpCode::Data(Data::Text | Data::Binary | Data::Continue) = header.opcode {
                    self.fragments = if header.is_final { 0 } else { self.fragments.saturating_add(1) };
                }
                self.payload = length;
                self.message = self.message.saturating_add(length);
                self.header_length = 0;
                allowance.throttle.charge(allowance.now, &allowance.rates, length);
                &bytes[used..]
            }
            Ok(None) => {
                self.header_length += u8::try_from(count).unwrap_or_default();
                &bytes[count..]
            }
            // tungstenite fails here, too. Nothing is read after that.
            Err(_) => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use std::time::Duration;

    /// Passes frame after frame, all at one instant, and returns the number of bytes that passed.
    fn pass(meter: &mut Meter, bytes: &[u8], limits: &Limits) -> (usize, Option<Duration>) {
        let now = Instant::now();
        let (mut throttle, rates) = (Throttle::new(now), Rates::new(limits));
        let max_fragments = limits.max_fragments;
        let mut allowance = Allowance { throttle: &mut throttle, rates, now, max_fragments };
        let mut passed = 0;
        loop {
            let (count, until) = meter.pass(&bytes[passed..], &mut allowance);
            passed += count;
            if count == 0 {
                return (passed, until.map(|until| until - now));
            }
            assert!(meter.at_rest() || meter.fragments > 0 || passed == bytes.len(), "frame by frame");
        }
    }

    #[test]
    fn the_meter_is_at_rest_between_messages_only() {
        let short = [0x81, 0x83, 1, 2, 3, 4, b'a', b'b', b'c'];
        let long = [&[0x81, 0xfe, 0x02, 0x00, 1, 2, 3, 4][..], &[0; 512]].concat();
        let fragments = [0x01, 0x80, 1, 2, 3, 4, 0x89, 0x80, 1, 2, 3, 4, 0x80, 0x80, 1, 2, 3, 4];
        let ends = [short.len(), short.len() + long.len(), short.len() + long.len() + fragments.len()];
        let bytes = [&short[..], &long, &fragments].concat();
        let limits = Limits::default();
        let mut meter = Meter::default();
        for (index, byte) in bytes.iter().enumerate() {
            assert_eq!(pass(&mut meter, &[*byte], &limits), (1, None));
            assert_eq!(meter.at_rest(), ends.contains(&(index + 1)), "after {} bytes", index + 1);
        }
        let mut in_one_go = Meter::default();
        assert_eq!(pass(&mut in_one_go, &bytes, &limits), (bytes.len(), None));
        assert!(in_one_go.at_rest());
    }

    #[test]
    fn a_frame_begins_when_it_may_and_then_passes_whole() {
        let pings = [0x89, 0x81, 1, 2, 3, 4, b'a'].repeat(201);
        let limits = Limits::default();
        let mut meter = Meter::default();
        assert_eq!(pass(&mut meter, &pings, &limits), (200 * 7, Some(Duration::from_millis(50))));

        // A frame that exceeds the allowance passes, and the next one waits until that is made up for.
        let length = 65_535_u16;
        let limits = Limits { bytes_burst: 1_000.try_into().unwrap(), ..limits };
        let mut meter = Meter::default();
        let mut long = vec![0x81, 0xfe, 0xff, 0xff, 1, 2, 3, 4];
        long.resize(8 + usize::from(length), 0);
        let (count, until) = pass(&mut meter, &long.repeat(2), &limits);
        let owed = f64::from(length - 1_000 + 1) / f64::from(512 << 10);
        assert_eq!(count, long.len());
        assert!((until.unwrap().as_secs_f64() - owed).abs() < 1e-6);
    }

    #[test]
    fn the_size_and_age_of_an_incomplete_message_are_known() {
        let limits = Limits::default();
        let mut meter = Meter::default();
        assert_eq!((meter.incomplete_bytes(), meter.incomplete_since()), (0, None));
        // The header makes tungstenite reserve space for the whole payload.
        pass(&mut meter, &[0x01, 0xfe, 0x7f, 0xff, 1, 2, 3, 4], &limits);
        let since = meter.incomplete_since();
        assert_eq!((meter.incomplete_bytes(), since.is_some()), (0x7fff, true));
        pass(&mut meter, &vec![0; 0x7fff], &limits);
        // Neither control frames nor further frames of the message change its age.
        pass(&mut meter, &[0x8a, 0x80, 1, 2, 3, 4], &limits);
        pass(&mut meter, &[0x00, 0x83, 1, 2, 3, 4, 0, 0, 0], &limits);
        assert_eq!((meter.incomplete_bytes(), meter.incomplete_since()), (0x7fff + 3, since));
        pass(&mut meter, &[0x80, 0x80, 1, 2, 3, 4], &limits);
        assert_eq!((meter.incomplete_bytes(), meter.incomplete_since()), (0, None));
    }

    #[test]
    fn a_message_of_too_many_frames_stops_there() {
        let pieces = [0x00, 0x81, 1, 2, 3, 4, b'a'].repeat(100);
        let limits = Limits { max_fragments: 10, ..Limits::default() };
        let mut meter = Meter::default();
        assert_eq!(pass(&mut meter, &pieces, &limits), (11 * 7, None));
        assert!(meter.has_too_many_fragments(10));
    }
}
