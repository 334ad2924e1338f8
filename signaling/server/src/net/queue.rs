//! The frames that wait to be written to one connection. They share their bytes with other queues, are written without
//! a copy, and are bounded by what one connection and all connections together may hold.

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
/// Frames given to one write.
const FRAMES_A_WRITE: usize = 16;
/// What a waiting frame costs besides its payload, so that many empty frames are not free.
const FRAME_COST: usize = size_of::<Frame>() + MAX_HEADER;
/// How many bytes of last words a queue takes after an overflow: an error and some to spare.
const LAST_WORDS: usize = 4 << 10;

/// What all queues of a server share: the budget, and measurements.
#[derive(Debug)]
pub(crate) struct Shared {
    budget: Rc<Budget>,
    /// Bytes that were written.
    sent: Cell<u64>,
    began: Instant,
    /// The time of the event that causes what is pushed now: see [`Shared::stamp`].
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

    /// The memory that connections hold.
    pub(crate) fn budget(&self) -> &Rc<Budget> {
        &self.budget
    }

    /// Sets the time of the event that causes what is pushed from here on.
    pub(crate) fn at(&self, now: Instant) {
        self.now.set(self.stamp(now));
    }

    /// Bytes that were written.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// How long messages took until they were written.
    pub(crate) fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// Microseconds since the start, which wrap around after 71 minutes: only for differences.
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
    /// Bytes of the first frame, its header included, that are written already.
    written: usize,
    /// When the first frame became the first.
    first_since: u32,
    account: Account,
    state: State,
    /// Bytes of last words so far.
    last_words: usize,
    /// The Hub wants nothing read from the peer.
    held: bool,
    /// The peer is being answered: what is pushed is counted as an answer.
    answering: bool,
    /// Bytes of answers that the peer has not paid for yet.
    answers: usize,
    /// Deliveries to others, caused outside of the peer's own turn, that it has not paid for yet.
    deliveries: u64,
    one_a_write: bool,
    waker: Option<Waker>,
}

/// What a queue takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Frames within the limits.
    #[default]
    Open,
    /// Nothing: it was too full, or not read for too long. The Hub will hear of it.
    Overflowed,
    /// A few last words, and a close frame.
    Parting,
    /// Nothing: its last frame is in. Architecture invariant: a closed queue stays closed.
    Closed,
}

/// An event for a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A frame comes, for which there is room or not.
    Frame { fits: bool },
    /// The connection has to go.
    Overflow,
    /// The last words come next.
    Part,
    /// The close frame comes.
    Close,
    /// Nothing more is to be written.
    End,
}

/// What an event does to the frames of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The frame is taken.
    Take,
    /// What waits is discarded, except for a frame that is half written. Then the frame, if there is one, is taken.
    Discard,
    /// Nothing changes; a frame is dropped.
    Nothing,
}

impl State {
    /// The rules of the states, all of them.
    fn on(self, event: Event) -> (Self, Effect) {
        use State::{Closed, Open, Overflowed, Parting};
        match (self, event) {
            (Closed, _) | (Open | Parting | Overflowed, Event::End) => (Closed, Effect::Nothing),
            (Open | Parting, Event::Close) => (Closed, Effect::Take),
            // Without room for it, the close frame would be lost.
            (Overflowed, Event::Close) => (Closed, Effect::Discard),
            (Open, Event::Frame { fits: true }) => (Open, Effect::Take),
            (Open, Event::Frame { fits: false } | Event::Overflow)
            | (Overflowed, Event::Frame { .. } | Event::Overflow) => (Overflowed, Effect::Nothing),
            (Open | Overflowed, Event::Part) => (Parting, Effect::Discard),
            (Parting, Event::Frame { fits: true }) => (Parting, Effect::Take),
            (Parting, Event::Frame { fits: false } | Event::Overflow | Event::Part) => {
                (Parting, Effect::Nothing)
            }
        }
    }
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// When it was pushed.
    at: u32,
    payload: Bytes,
    /// Of a payload that other queues share.
    charge: Option<Rc<Charge>>,
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
    /// A whole frame, header included.
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

    /// What it counts for in its queue.
    fn cost(&self) -> usize {
        self.payload.len() + FRAME_COST
    }

    /// What it counts for in the sum of all queues, besides its charge.
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
            state: State::Open,
            last_words: 0,
            held: false,
            answering: false,
            answers: 0,
            deliveries: 0,
            one_a_write: false,
            waker: None,
        };
        Self { inner: RefCell::new(inner), shared }
    }

    /// Puts a text at the end and wakes the connection. If there is no room for it, the queue has overflowed.
    pub(crate) fn push_text(&self, payload: Bytes) {
        let charge = self.shared.budget.charge(&payload);
        self.push_frame(Kind::Text, payload, charge);
    }

    /// Puts another frame at the end.
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
            State::Open => inner.account.outbound() + frame.cost() <= inner.account.budget().each(),
            State::Parting => kind == Kind::Text && inner.last_words + frame.cost() <= LAST_WORDS,
            State::Overflowed | State::Closed => false,
        };
        inner.apply(Event::Frame { fits }, Some(frame));
    }

    /// The connection has to go, because it holds too much or reads too little.
    pub(crate) fn overflow(&self) {
        self.inner.borrow_mut().apply(Event::Overflow, None);
    }

    /// After an overflow: discards what waits, except for a frame that is half written, and takes last words.
    pub(crate) fn part(&self) {
        self.inner.borrow_mut().apply(Event::Part, None);
    }

    /// Puts a close frame at the end. Later frames are dropped.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        // A control frame carries at most 125 bytes (RFC 6455 section 5.5).
        let payload: Vec<u8> = code.to_be_bytes().into_iter().chain(reason.bytes().take(123)).collect();
        let frame =
            Frame { kind: Kind::Close, at: self.shared.now.get(), payload: payload.into(), charge: None };
        self.inner.borrow_mut().apply(Event::Close, Some(frame));
    }

    /// Takes nothing more.
    pub(crate) fn end(&self) {
        self.inner.borrow_mut().apply(Event::End, None);
    }

    /// Stops the connection from reading.
    pub(crate) fn hold(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.held = true;
        inner.answering = true;
    }

    /// Lets the connection read again, and wakes it. `deliveries` were caused by its request while it was held.
    pub(crate) fn release(&self, deliveries: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.held = false;
        inner.answering = false;
        inner.deliveries = inner.deliveries.saturating_add(deliveries);
        inner.wake();
    }

    /// Whether the connection may not read.
    pub(crate) fn is_held(&self) -> bool {
        self.inner.borrow().held
    }

    /// Counts work for the peer as so many deliveries.
    pub(crate) fn owe(&self, deliveries: u64) {
        let mut inner = self.inner.borrow_mut();
        inner.deliveries = inner.deliveries.saturating_add(deliveries);
    }

    /// Counts what is pushed from here on as an answer to the peer.
    pub(crate) fn begin_answer(&self) {
        self.inner.borrow_mut().answering = true;
    }

    /// The bytes of answers and the deliveries that the peer has to pay for since the last call.
    pub(crate) fn end_answer(&self) -> (usize, u64) {
        let mut inner = self.inner.borrow_mut();
        inner.answering = inner.held;
        (std::mem::take(&mut inner.answers), std::mem::take(&mut inner.deliveries))
    }

    /// Whether the connection has to go, and the Hub doesn't know it yet.
    pub(crate) fn is_overflowed(&self) -> bool {
        self.inner.borrow().state == State::Overflowed
    }

    /// Whether its last frame is in.
    pub(crate) fn is_closed(&self) -> bool {
        self.inner.borrow().state == State::Closed
    }

    /// Bytes that the connection holds, or 0 if it is about to end.
    pub(crate) fn weight(&self) -> usize {
        self.inner.borrow().account.weight()
    }

    /// Says how many inbound bytes the connection holds.
    pub(crate) fn set_inbound(&self, bytes: usize) {
        self.inner.borrow_mut().account.set_inbound(bytes);
    }

    /// For how long the first frame has been the first. `None`: nothing waits.
    pub(crate) fn stuck_for(&self) -> Option<Duration> {
        let inner = self.inner.borrow();
        inner.frames.front()?;
        let stuck = self.shared.stamp(Instant::now()).wrapping_sub(inner.first_since);
        Some(Duration::from_micros(stuck.into()))
    }

    /// From now on each frame gets a write of its own, because old clients read one frame per `recv`.
    pub(crate) fn one_frame_a_write(&self) {
        self.inner.borrow_mut().one_a_write = true;
    }

    /// Takes the waker away for the time of a turn, which writes what it queues itself.
    pub(crate) fn begin_turn(&self) -> Option<Waker> {
        self.inner.borrow_mut().waker.take()
    }

    /// Sets the waker for what comes after the turn.
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
            inner.advance(count, now, |frame| {
                if frame.kind == Kind::Text {
                    self.shared.latency.observe(now.wrapping_sub(frame.at));
                }
            });
            self.shared.sent.set(self.shared.sent.get() + count as u64);
        }
        // A queue that grew gives its memory back.
        inner.frames = VecDeque::new();
        // Nor may anything wait within TLS.
        Pin::new(stream).poll_flush(cx)
    }
}

impl Inner {
    /// Applies the rules to an event and its frame.
    fn apply(&mut self, event: Event, frame: Option<Frame>) {
        let before = self.state;
        let (state, effect) = before.on(event);
        self.state = state;
        if state != State::Open && before == State::Open {
            self.account.close();
        }
        match effect {
            Effect::Nothing => {}
            Effect::Discard => {
                self.discard();
                self.take(frame);
            }
            Effect::Take => self.take(frame),
        }
        if state != before {
            self.wake();
        }
    }

    fn take(&mut self, frame: Option<Frame>) {
        let Some(frame) = frame else { return };
        if self.state == State::Parting {
            self.last_words += frame.cost();
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

    /// Takes out what is written, and shows each frame that is.
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
