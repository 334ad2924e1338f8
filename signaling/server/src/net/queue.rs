//! The outbound queue of one connection: frames that wait to be written. [`Queue::push_text`] bounds it: a frame that does
//! not fit overflows the queue, and the connection is closed (`slow_consumer`). Payloads are shared with other queues and
//! written without a copy.

use crate::{
    metrics::Histogram,
    net::budget::{Account, Budget, Charge},
};
use bytes::Bytes;
use room_protocol::hub::ConnId;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};
use tokio::io::AsyncWrite;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// The longest header of a frame from a server (RFC 6455 section 5.2: no mask).
const MAX_HEADER: usize = 10;
/// The largest number of frames that one write takes.
const FRAMES_A_WRITE: usize = 16;
/// The cost of a frame in addition to its payload, so that many empty frames are not free.
const FRAME_COST: usize = size_of::<Frame>() + MAX_HEADER;
/// The bytes that a queue accepts after an overflow: enough for an error.
const MAX_PARTING: usize = 4 << 10;

/// The state that all queues of a server share: the memory budget, and measurements.
#[derive(Debug)]
pub(crate) struct Shared {
    budget: Rc<Budget>,
    /// The bytes that were written.
    sent: Cell<u64>,
    began: Instant,
    /// The time of the event that causes what is pushed now; see [`Shared::stamp`].
    now: Cell<u32>,
    latency: Histogram,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self {
            budget: Rc::default(),
            sent: Cell::default(),
            began: Instant::now(),
            now: Cell::default(),
            latency: Histogram::default(),
        }
    }

    /// The memory budget of all connections.
    pub(crate) fn budget(&self) -> &Rc<Budget> {
        &self.budget
    }

    /// Sets the time of the event that causes what is pushed from now on.
    pub(crate) fn at(&self, now: Instant) {
        self.now.set(self.stamp(now));
    }

    /// The number of bytes that were written.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// The time from the cause of a message until it was written.
    pub(crate) fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// Microseconds since the start. They wrap around after 71 minutes, so only differences are meaningful.
    #[expect(clippy::cast_possible_truncation, reason = "it wraps around")]
    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.began).as_micros() as u32
    }
}

/// The frames that wait for one connection.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: RefCell<Inner>,
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Inner {
    frames: VecDeque<Frame>,
    /// The bytes of the first frame, including its header, that are already written.
    written: usize,
    /// The time at which the first frame became the first.
    first_since: u32,
    account: Account,
    state: QueueState,
    /// The bytes that were accepted after the overflow.
    parting_bytes: usize,
    /// The Hub wants nothing to be read from the peer.
    held: bool,
    /// The peer is being answered, so what is pushed counts as an answer.
    answering: bool,
    /// The bytes of answers that are not charged to the peer yet.
    answers: usize,
    /// The deliveries to others, caused outside the peer's own turn, that are not charged to it yet.
    deliveries: u64,
    one_a_write: bool,
    waker: Option<Waker>,
}

/// The state of a queue, by the frames that it accepts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum QueueState {
    /// Frames within the limits.
    #[default]
    Open,
    /// Nothing, because it was too full or not read for too long. The driver has to report this to the Hub.
    Overflowed,
    /// A few bytes that explain the end, and a close frame.
    Parting,
    /// Nothing, because it has its last frame. Architecture invariant: a closed queue stays closed.
    Closed,
}

/// An event for a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueEvent {
    /// A frame is pushed.
    Frame { fits: bool },
    /// The connection has to go.
    Overflow,
    /// Only the explanation of the end follows.
    Part,
    /// The close frame is pushed.
    Close,
    /// Nothing more is accepted.
    End,
}

/// The effect of an event on the frames of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The frame is appended.
    Append,
    /// Waiting frames are discarded, except for one that is partly written. Then the new frame, if there is one, is
    /// appended.
    Discard,
    /// Nothing changes. The frame is dropped.
    Nothing,
}

impl QueueState {
    /// All rules of the states.
    fn on(self, event: QueueEvent) -> (Self, Effect) {
        use QueueState::{Closed, Open, Overflowed, Parting};
        match (self, event) {
            (Closed, _) | (Open | Parting | Overflowed, QueueEvent::End) => (Closed, Effect::Nothing),
            (Open | Parting, QueueEvent::Close) => (Closed, Effect::Append),
            // Without room for it, the close frame would be lost.
            (Overflowed, QueueEvent::Close) => (Closed, Effect::Discard),
            (Open, QueueEvent::Frame { fits: true }) => (Open, Effect::Append),
            (Open, QueueEvent::Frame { fits: false } | QueueEvent::Overflow)
            | (Overflowed, QueueEvent::Frame { .. } | QueueEvent::Overflow) => (Overflowed, Effect::Nothing),
            (Open | Overflowed, QueueEvent::Part) => (Parting, Effect::Discard),
            (Parting, QueueEvent::Frame { fits: true }) => (Parting, Effect::Append),
            (Parting, QueueEvent::Frame { fits: false } | QueueEvent::Overflow | QueueEvent::Part) => {
                (Parting, Effect::Nothing)
            }
        }
    }
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// The time of its cause.
    at: u32,
    payload: Bytes,
    /// The charge for a payload that other queues share.
    charge: Option<Rc<Charge>>,
}

/// The kind of frame that a payload becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A text frame.
    Text,
    /// A ping.
    Ping,
    /// A close frame with code and reason.
    Close,
    /// A whole frame, including its header.
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
        // It always fits, because MAX_HEADER is the longest header.
        let _ = header.format(self.payload.len() as u64, &mut rest);
        MAX_HEADER - rest.len()
    }

    /// Its cost in its queue.
    fn cost(&self) -> usize {
        self.payload.len() + FRAME_COST
    }

    /// Its cost in the sum of all queues, in addition to its charge.
    fn own(&self) -> usize {
        if self.charge.is_some() { FRAME_COST } else { self.cost() }
    }
}

impl Queue {
    pub(crate) fn new(conn: ConnId, shared: Rc<Shared>) -> Self {
        let inner = Inner {
            frames: VecDeque::new(),
            written: 0,
            first_since: 0,
            account: Account::new(shared.budget.clone(), conn),
            state: QueueState::Open,
            parting_bytes: 0,
            held: false,
            answering: false,
            answers: 0,
            deliveries: 0,
            one_a_write: false,
            waker: None,
        };
        Self { inner: RefCell::new(inner), shared }
    }

    /// Appends a text frame and wakes the connection. If there is no room for it, the queue overflows.
    pub(crate) fn push_text(&self, payload: Bytes) {
        let charge = self.shared.budget.charge(&payload);
        self.push_frame(Kind::Text, payload, charge);
    }

    /// Appends another frame.
    pub(crate) fn push(&self, kind: Kind, payload: Bytes) {
        self.push_frame(kind, payload, None);
    }

    fn push_frame(&self, kind: Kind, payload: Bytes, charge: Option<Rc<Charge>>) {
        let frame = Frame { kind, at: self.shared.now.get(), payload, charge };
        let mut inner = self.inner.borrow_mut();
        if inner.answering && kind == Kind::Text {
            inner.answers = inner.answers.saturating_add(frame.payload.len());
        }
        let fits = match inner.state {
            QueueState::Open => inner.account.outbound() + frame.cost() <= inner.account.budget().each(),
            QueueState::Parting => kind == Kind::Text && inner.parting_bytes + frame.cost() <= MAX_PARTING,
            QueueState::Overflowed | QueueState::Closed => false,
        };
        inner.apply(QueueEvent::Frame { fits }, Some(frame));
    }

    /// Marks the connection as one that has to be closed, because it holds too much or reads too slowly.
    pub(crate) fn overflow(&self) {
        self.inner.borrow_mut().apply(QueueEvent::Overflow, None);
    }

    /// After an overflow: discards waiting frames, except for one that is partly written, and accepts an explanation.
    pub(crate) fn part(&self) {
        self.inner.borrow_mut().apply(QueueEvent::Part, None);
    }

    /// Appends a close frame. Later frames are dropped.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        // A control frame carries at most 125 bytes (RFC 6455 section 5.5).
        let payload: Vec<u8> = code.to_be_bytes().into_iter().chain(reason.bytes().take(123)).collect();
        let frame =
            Frame { kind: Kind::Close, at: self.shared.now.get(), payload: payload.into(), charge: None };
        self.inner.borrow_mut().apply(QueueEvent::Close, Some(frame));
    }

    /// Accepts nothing more.
    pub(crate) fn end(&self) {
        self.inner.borrow_mut().apply(QueueEvent::End, None);
    }

    /// Stops the connection from reading.
    pub(crate) fn hold(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.held = true;
        inner.answering = true;
    }

    /// Lets the connection read again, and wakes it. Its request has caused `deliveries` while it was held.
    pub(crate) fn release(&self, deliveries: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.held = false;
        inner.answering = false;
        inner.deliveries = inner.deliveries.saturating_add(deliveries);
        inner.wake();
    }

    /// Whether the connection must not read.
    pub(crate) fn is_held(&self) -> bool {
        self.inner.borrow().held
    }

    /// Charges the peer for work that costs as much as `deliveries`.
    pub(crate) fn owe(&self, deliveries: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.deliveries = inner.deliveries.saturating_add(deliveries);
    }

    /// Counts what is pushed from now on as an answer to the peer.
    pub(crate) fn begin_answer(&self) {
        self.inner.borrow_mut().answering = true;
    }

    /// The bytes of answers and the deliveries to charge to the peer since the last call.
    pub(crate) fn end_answer(&self) -> (usize, u64) {
        let mut inner = self.inner.borrow_mut();
        inner.answering = inner.held;
        (std::mem::take(&mut inner.answers), std::mem::take(&mut inner.deliveries))
    }

    /// Whether the queue has overflowed and the Hub does not know it yet.
    pub(crate) fn is_overflowed(&self) -> bool {
        self.inner.borrow().state == QueueState::Overflowed
    }

    /// Whether it has its last frame.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.borrow().state == QueueState::Closed
    }

    /// The bytes that the connection holds, or 0 if it is about to end.
    pub(crate) fn weight(&self) -> usize {
        self.inner.borrow().account.weight()
    }

    /// Sets the number of inbound bytes that the connection holds.
    pub(crate) fn set_inbound(&self, bytes: usize) {
        self.inner.borrow_mut().account.set_inbound(bytes);
    }

    /// The time for which the first frame has been the first. `None`: the queue is empty.
    pub(crate) fn stuck_for(&self) -> Option<Duration> {
        let inner = self.inner.borrow();
        inner.frames.front()?;
        let stuck = self.shared.stamp(Instant::now()).wrapping_sub(inner.first_since);
        Some(Duration::from_micros(stuck.into()))
    }

    /// From now on, each frame is written by itself, because old clients read one frame per `recv`. TCP does not promise
    /// that they receive it so, but it fails much more rarely than with several frames in one write.
    pub(crate) fn one_frame_a_write(&self) {
        self.inner.borrow_mut().one_a_write = true;
    }

    /// Removes the waker during a poll of the connection, which writes the frames that it queues itself.
    pub(crate) fn begin_poll(&self) -> Option<Waker> {
        self.inner.borrow_mut().waker.take()
    }

    /// Sets the waker for frames that are queued after the poll.
    pub(crate) fn end_poll(&self, waker: Option<Waker>, cx: &Context<'_>) {
        let waker = waker.filter(|known| known.will_wake(cx.waker())).unwrap_or_else(|| cx.waker().clone());
        self.inner.borrow_mut().waker = Some(waker);
    }

    /// Writes until nothing waits in the queue or in the stream.
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
            inner.advance(count, now, |frame| {
                if frame.kind == Kind::Text {
                    self.shared.latency.observe(now.wrapping_sub(frame.at));
                }
            });
            self.shared.sent.set(self.shared.sent.get() + count as u64);
        }
        // This frees the memory of a queue that has grown.
        inner.frames = VecDeque::new();
        // Nothing may be left in the buffer of TLS either.
        Pin::new(stream).poll_flush(cx)
    }
}

impl Inner {
    /// Applies the rules to an event and its frame.
    fn apply(&mut self, event: QueueEvent, frame: Option<Frame>) {
        let before = self.state;
        let (state, effect) = before.on(event);
        self.state = state;
        if state != QueueState::Open && before == QueueState::Open {
            self.account.close();
        }
        match effect {
            Effect::Nothing => {}
            Effect::Discard => {
                self.discard();
                self.append(frame);
            }
            Effect::Append => self.append(frame),
        }
        if state != before {
            self.wake();
        }
    }

    fn append(&mut self, frame: Option<Frame>) {
        let Some(frame) = frame else { return };
        if self.state == QueueState::Parting {
            self.parting_bytes += frame.cost();
        }
        if self.frames.is_empty() {
            self.first_since = frame.at;
        }
        self.account.add(frame.cost(), frame.own());
        self.frames.push_back(frame);
        self.wake();
    }

    fn discard(&mut self) {
        let keep = usize::from(self.written > 0);
        for frame in self.frames.drain(keep..) {
            self.account.remove(frame.cost(), frame.own());
        }
        self.frames.shrink_to_fit();
    }

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

    /// Removes the frames that are written, and calls `written` with each.
    fn advance(&mut self, count: usize, now: u32, mut written: impl FnMut(&Frame)) {
        self.written += count;
        while let Some(frame) = self.frames.front() {
            let length = frame.header(&mut [0; MAX_HEADER]) + frame.payload.len();
            if self.written < length {
                break;
            }
            self.written -= length;
            self.account.remove(frame.cost(), frame.own());
            self.first_since = now;
            written(frame);
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
