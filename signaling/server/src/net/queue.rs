//! What waits for one connection to read it: frames that share their bytes with other queues, written without a
//! copy, bounded by what one peer and all peers together may keep waiting.

use crate::http::metrics::Histogram;
use bytes::Bytes;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};
use tokio::io::AsyncWrite;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// The longest header of a frame from a server (RFC 6455 section 5.2: no mask).
const MAX_HEADER: usize = 10;
/// Frames given to one write.
const FRAMES_A_WRITE: usize = 16;
/// What a waiting frame costs beside its payload: so many empty ones are not free.
const FRAME_COST: usize = size_of::<Frame>() + MAX_HEADER;

/// What every queue of a server shares: bounds, and what is measured.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Bytes that one queue may hold.
    each: Cell<usize>,
    /// Bytes that all may hold together.
    all: Cell<usize>,
    /// Bytes that all hold.
    held: Cell<usize>,
    /// Bytes that were written.
    sent: Cell<u64>,
    began: Instant,
    /// When what is pushed now was read or made: see [`Shared::stamp`].
    now: Cell<u32>,
    latency: Histogram,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            each: Cell::default(),
            all: Cell::default(),
            held: Cell::default(),
            sent: Cell::default(),
            began: Instant::now(),
            now: Cell::default(),
            latency: Histogram::default(),
        }
    }

    /// Changes what may be held. What is held already stays.
    pub(crate) fn set(&self, each: usize, all: usize) {
        self.each.set(each);
        self.all.set(all);
    }

    /// What is pushed from here on comes of something that happens now.
    pub(crate) fn at(&self, now: Instant) {
        self.now.set(self.stamp(now));
    }

    /// Bytes that all hold.
    pub(crate) fn held(&self) -> usize {
        self.held.get()
    }

    /// Bytes that were written.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// How long messages took until they were written.
    pub(crate) fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// Microseconds since the beginning, which turn over after 71 minutes: only for differences.
    #[expect(clippy::cast_possible_truncation, reason = "it turns over")]
    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.began).as_micros() as u32
    }
}

/// What waits for one connection.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: RefCell<Inner>,
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Inner {
    frames: VecDeque<Frame>,
    /// Bytes of the first frame, its header included, that are written already.
    written: usize,
    /// What this queue counts for in [`Shared::held`].
    bytes: usize,
    state: State,
    /// The Hub wants nothing read from the peer.
    held: bool,
    one_a_write: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Takes frames within the limits.
    #[default]
    Open,
    /// Was too full. Takes nothing.
    Overflowed,
    /// Takes the last words, whatever the limits say.
    Parting,
    /// Its last frame is in. Takes nothing.
    Closed,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// When it was pushed.
    at: u32,
    payload: Bytes,
}

/// What kind of frame to make of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text frame.
    Text,
    /// A ping.
    Ping,
    /// A close frame: code and reason.
    Close,
    /// A whole frame with its header already.
    Framed,
}

impl Frame {
    fn header(&self, buffer: &mut [u8; MAX_HEADER]) -> usize {
        let opcode = match self.kind {
            Kind::Text => OpCode::Data(Data::Text),
            Kind::Ping => OpCode::Control(Control::Ping),
            Kind::Close => OpCode::Control(Control::Close),
            Kind::Framed => return 0,
        };
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let mut rest = &mut buffer[..];
        // It always fits: MAX_HEADER is the longest.
        let _ = header.format(self.payload.len() as u64, &mut rest);
        MAX_HEADER - rest.len()
    }

    fn cost(&self) -> usize {
        self.payload.len() + FRAME_COST
    }
}

impl Queue {
    pub(crate) fn new(shared: Rc<Shared>) -> Self {
        Self { inner: RefCell::default(), shared }
    }

    /// Puts a frame at the end and wakes the connection. Where there is no room for it, the queue has overflowed and
    /// takes nothing more until [`Queue::part`].
    pub(crate) fn push(&self, kind: Kind, payload: Bytes) {
        let mut inner = self.inner.borrow_mut();
        let frame = Frame { kind, at: self.shared.now.get(), payload };
        let cost = frame.cost();
        match inner.state {
            State::Overflowed | State::Closed => return,
            State::Open
                if inner.bytes + cost > self.shared.each.get()
                    || self.shared.held.get() + cost > self.shared.all.get() =>
            {
                inner.state = State::Overflowed;
                return;
            }
            State::Open | State::Parting => {}
        }
        inner.frames.push_back(frame);
        inner.bytes += cost;
        self.shared.held.set(self.shared.held.get() + cost);
        inner.wake();
    }

    /// After an overflow: throws away what waits, except for a frame that is half written, and takes last words.
    pub(crate) fn part(&self) {
        let mut inner = self.inner.borrow_mut();
        let keep = usize::from(inner.written > 0);
        let freed: usize = inner.frames.drain(keep..).map(|frame| frame.cost()).sum();
        inner.bytes -= freed;
        self.shared.held.set(self.shared.held.get() - freed);
        inner.frames.shrink_to_fit();
        inner.state = State::Parting;
    }

    /// Puts a close frame at the end: what comes later is dropped.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        // A control frame carries at most 125 bytes (RFC 6455 section 5.5).
        let payload: Vec<u8> = code.to_be_bytes().into_iter().chain(reason.bytes().take(123)).collect();
        self.push(Kind::Close, payload.into());
        self.end();
    }

    /// Stops the connection from reading.
    pub(crate) fn hold(&self) {
        self.inner.borrow_mut().held = true;
    }

    /// Lets the connection read again, and wakes it.
    pub(crate) fn release(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.held = false;
        inner.wake();
    }

    /// Whether the connection may not read.
    pub(crate) fn is_held(&self) -> bool {
        self.inner.borrow().held
    }

    /// Takes nothing more.
    pub(crate) fn end(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.state = State::Closed;
        inner.wake();
    }

    /// Whether a frame found no room.
    pub(crate) fn is_overflowed(&self) -> bool {
        self.inner.borrow().state == State::Overflowed
    }

    /// Whether its last frame is in.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.borrow().state == State::Closed
    }

    /// From now on each frame gets a write of its own: old clients read one frame a `recv`.
    pub(crate) fn one_frame_a_write(&self) {
        self.inner.borrow_mut().one_a_write = true;
    }

    /// Takes the waker away for the time of a turn: what the turn itself queues it also writes.
    pub(crate) fn begin_turn(&self) -> Option<Waker> {
        self.inner.borrow_mut().waker.take()
    }

    /// Whom to wake for what comes after the turn.
    pub(crate) fn end_turn(&self, waker: Option<Waker>, cx: &Context<'_>) {
        let waker = waker.filter(|known| known.will_wake(cx.waker())).unwrap_or_else(|| cx.waker().clone());
        self.inner.borrow_mut().waker = Some(waker);
    }

    /// Writes until nothing waits, here or in the stream.
    pub(crate) fn poll_write<S>(&self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        let mut inner = self.inner.borrow_mut();
        while !inner.frames.is_empty() {
            let count = ready!(inner.write_some(stream, cx))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let now = self.shared.stamp(Instant::now());
            let freed = inner.advance(count, |frame| {
                if frame.kind == Kind::Text {
                    self.shared.latency.observe(now.wrapping_sub(frame.at));
                }
            });
            self.shared.held.set(self.shared.held.get() - freed);
            self.shared.sent.set(self.shared.sent.get() + count as u64);
        }
        // A queue that grew gives its memory back.
        inner.frames = VecDeque::new();
        // Nor may anything wait within TLS.
        Pin::new(stream).poll_flush(cx)
    }
}

impl Inner {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn write_some<S>(&self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite + Unpin,
    {
        let mut headers = [[0; MAX_HEADER]; FRAMES_A_WRITE];
        let mut slices = [IoSlice::new(&[]); 2 * FRAMES_A_WRITE];
        let mut used = 0;
        let mut skip = self.written;
        let frames = self.frames.iter().take(if self.one_a_write { 1 } else { FRAMES_A_WRITE });
        for (frame, buffer) in frames.zip(&mut headers) {
            let length = frame.header(buffer);
            for part in [&buffer[..length], &frame.payload[..]] {
                let done = skip.min(part.len());
                skip -= done;
                let part = &part[done..];
                if !part.is_empty() {
                    slices[used] = IoSlice::new(part);
                    used += 1;
                }
            }
        }
        Pin::new(stream).poll_write_vectored(cx, &slices[..used])
    }

    /// Takes out what is written, shows each frame that is, and returns what that frees.
    fn advance(&mut self, count: usize, mut written: impl FnMut(&Frame)) -> usize {
        self.written += count;
        let mut freed = 0;
        while let Some(frame) = self.frames.front() {
            let length = frame.header(&mut [0; MAX_HEADER]) + frame.payload.len();
            if self.written < length {
                break;
            }
            self.written -= length;
            freed += frame.cost();
            written(frame);
            self.frames.pop_front();
        }
        self.bytes -= freed;
        freed
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.held.set(self.shared.held.get() - self.inner.get_mut().bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, duplex};

    fn queue(each: usize, all: usize) -> (Queue, Rc<Shared>) {
        let shared = Rc::new(Shared::new());
        shared.set(each, all);
        (Queue::new(shared.clone()), shared)
    }

    /// Everything that the queue writes into a pipe of `capacity`, read in small pieces.
    async fn written(queue: &Queue, capacity: usize) -> Vec<u8> {
        let (mut ours, mut theirs) = duplex(capacity);
        let write = async {
            poll_fn(|cx| queue.poll_write(&mut ours, cx)).await.unwrap();
            drop(ours);
        };
        let mut bytes = Vec::new();
        let (read, ()) = tokio::join!(theirs.read_to_end(&mut bytes), write);
        read.unwrap();
        bytes
    }

    #[tokio::test]
    async fn frames_of_each_kind_and_length_are_written_whole() {
        let (queue, shared) = queue(1 << 20, 1 << 20);
        let texts: Vec<String> = [0, 1, 125, 126, 65_535, 65_536].map(|length| "x".repeat(length)).into();
        for text in &texts {
            queue.push(Kind::Text, text.clone().into());
        }
        queue.push(Kind::Ping, Bytes::new());
        queue.push(Kind::Framed, Bytes::from_static(&[0x8a, 0]));
        queue.close(4001, "replaced");
        queue.push(Kind::Text, Bytes::from_static(b"too late"));

        let mut expected = Vec::new();
        let headers: [&[u8]; 6] = [
            &[0x81, 0],
            &[0x81, 1],
            &[0x81, 125],
            &[0x81, 126, 0, 126],
            &[0x81, 126, 0xff, 0xff],
            &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0],
        ];
        for (header, text) in headers.iter().zip(&texts) {
            expected.extend_from_slice(header);
            expected.extend_from_slice(text.as_bytes());
        }
        expected.extend_from_slice(b"\x89\0\x8a\0\x88\x0a\x0f\xa1replaced");
        assert!(written(&queue, 7).await == expected);
        assert_eq!(shared.sent(), expected.len() as u64);
        let (_, measured) = shared.latency().cumulative().last().unwrap();
        assert_eq!(measured, texts.len() as u64, "control frames are not messages");
        assert_eq!(shared.held.get(), 0);
    }

    /// Remembers each write.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl AsyncWrite for Writes {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>();
            let count = bytes.len();
            self.0.push(bytes);
            Poll::Ready(Ok(count))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn nothing_stays_behind_in_a_stream_that_buffers() {
        let (queue, _) = queue(1_000, 1_000);
        queue.push(Kind::Text, Bytes::from_static(b"a"));
        let (ours, mut theirs) = duplex(64);
        let mut ours = tokio::io::BufWriter::new(ours);
        poll_fn(|cx| queue.poll_write(&mut ours, cx)).await.unwrap();
        // It must be there without another write.
        let mut bytes = [0; 3];
        let read = tokio::time::timeout(std::time::Duration::from_secs(5), theirs.read_exact(&mut bytes));
        read.await.unwrap().unwrap();
        assert_eq!(&bytes, b"\x81\x01a");
    }

    #[tokio::test]
    async fn old_clients_get_a_write_a_frame_and_others_many_frames_a_write() {
        for (old, expected) in
            [(false, &[&b"\x81\x01a\x81\x01b"[..]][..]), (true, &[b"\x81\x01a", b"\x81\x01b"])]
        {
            let (queue, _) = queue(1 << 20, 1 << 20);
            if old {
                queue.one_frame_a_write();
            }
            queue.push(Kind::Text, Bytes::from_static(b"a"));
            queue.push(Kind::Text, Bytes::from_static(b"b"));
            let mut writes = Writes::default();
            poll_fn(|cx| queue.poll_write(&mut writes, cx)).await.unwrap();
            assert_eq!(writes.0, expected);
        }
    }

    #[test]
    fn a_queue_overflows_at_its_own_limit_and_at_that_of_all() {
        let (first, shared) = queue(1_000, 1_500);
        let second = Queue::new(shared.clone());
        first.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
        assert!(!first.is_overflowed());
        second.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
        assert!(second.is_overflowed() && !first.is_overflowed());
        first.push(Kind::Text, Bytes::from_static(&[b'x'; 200]));
        assert!(first.is_overflowed());
        drop((first, second));
        assert_eq!(shared.held.get(), 0);
    }

    #[test]
    fn empty_frames_are_not_free() {
        let (queue, _) = queue(10_000, 10_000);
        for _ in 0..1_000 {
            queue.push(Kind::Ping, Bytes::new());
        }
        assert!(queue.is_overflowed());
    }

    #[tokio::test]
    async fn last_words_follow_the_frame_that_is_half_written() {
        let (queue, shared) = queue(1_000, 1_000);
        queue.push(Kind::Text, Bytes::from_static(b"half"));
        queue.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
        let (mut ours, mut theirs) = duplex(3);
        let blocked = poll_fn(|cx| Poll::Ready(queue.poll_write(&mut ours, cx).is_pending())).await;
        assert!(blocked);
        let mut bytes = vec![0; 3];
        theirs.read_exact(&mut bytes).await.unwrap();

        queue.push(Kind::Text, Bytes::from_static(&[b'x'; 800]));
        assert!(queue.is_overflowed());
        queue.part();
        queue.push(Kind::Text, Bytes::from_static(b"bye"));
        queue.close(4008, "");
        bytes.extend(written(&queue, 64).await);
        assert_eq!(bytes, b"\x81\x04half\x81\x03bye\x88\x02\x0f\xa8");
        assert_eq!(shared.held.get(), 0);
    }
}
