//! One WebSocket connection: a task that reads messages for the Hub and writes the frames of its queue.
//!
//! It reads in short turns, so that no connection keeps the thread from the others. The queue (`queue.rs`) is where the
//! outbound frames of one connection are bounded; `throttle.rs` limits what one connection may send; tungstenite parses
//! the frames that `io.rs` lets pass.

use super::{
    admission::Seat,
    io::{Allowance, Meter, Rest, Scratch, SocketView},
    lane::{Lane, Ticket},
    queue::Queue,
    throttle::{Rates, Throttle},
};
use crate::{context::ServerContext, driver::Driver};
use room_protocol::{
    ByteString, RoomId,
    hub::{ConnId, Input},
    wire::close,
};
use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, Sleep},
};
use tungstenite::{
    Error, Message,
    protocol::{Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};

/// The bytes that tungstenite reads at a time. Most messages are shorter.
const READ_BUFFER: usize = 4 << 10;
/// The messages of one turn, and the deliveries that they may cause.
const MESSAGES_A_TURN: usize = 32;
const DELIVERIES_A_TURN: u64 = 32;
/// The bytes of one turn. The last message may exceed them.
const BYTES_A_TURN: usize = 32 << 10;
/// A new connection takes its first turns in the lane, so that a crowd of newcomers does not hold up those already here.
const TURNS_OF_NEWCOMERS: u8 = 2;
/// The time limit for writing the last frames.
const PARTING: Duration = Duration::from_secs(5);
/// The time for which input is discarded after the last frames.
const LINGER: Duration = Duration::from_secs(1);
/// The interval at which bytes of an incomplete message count as a sign of life.
const LIFE: Duration = Duration::from_secs(1);

/// The parts of the server that all WebSocket connections use.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) context: Rc<ServerContext>,
    pub(crate) driver: Rc<Driver>,
    pub(crate) lane: Rc<Lane>,
    /// The buffer that connections read through, each during its turn.
    pub(crate) scratch: RefCell<Scratch>,
}

/// One connection, to be polled until its end. It is a hand-written future because an async function would hold the
/// socket twice.
pub(crate) struct Connection<S> {
    id: ConnId,
    stream: S,
    /// Present while it holds a part of a message. Its buffers grow with the messages, and an idle connection should need
    /// almost no memory.
    websocket: Option<Box<WebSocketContext>>,
    meter: Meter,
    throttle: Throttle,
    rest: Option<Box<Rest>>,
    queue: Rc<Queue>,
    lifecycle: Lifecycle,
    /// Its place in the lane.
    ticket: Option<Ticket>,
    /// Whether its next turn must be taken in the lane.
    waits: bool,
    /// The number of turns that it still has to take in the lane because it is new.
    new: u8,
    /// The last sign of life from an incomplete message.
    alive: std::time::Instant,
    /// Fires no later than the stall timeout. Most connections never need it.
    stall_timer: Option<Pin<Box<Sleep>>>,
    resources: Rc<Resources>,
    /// Its seat among the connections of the server.
    _seat: Seat,
}

/// The life of a connection.
enum Lifecycle {
    /// Messages are read and written.
    Open,
    /// The peer has exceeded its rates. Nothing is read until the timer fires.
    Paused(Pin<Box<Sleep>>),
    /// The socket is gone. The connection ends in its next turn in the lane.
    Leaving,
    /// The last frames are being written. Input is discarded.
    Parting(Pin<Box<Sleep>>),
    /// They are written, and the write side is shut. Input is still discarded, because a reset could destroy them.
    Lingering(Pin<Box<Sleep>>),
}

/// The result of a turn of reading.
enum Read {
    /// There is nothing to read at the moment.
    Blocked,
    /// There may be more, to be read in another turn.
    More,
    /// There is more, to be read at that time.
    Paused(std::time::Instant),
    /// There may be more, to be read after the Hub has released the connection.
    Held,
    /// The queue is closed, so the connection has to be closed.
    Closing,
    /// The socket is gone.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Opens a connection that has been upgraded. Its URL names `room`; `read_ahead` arrived after the head of the
    /// request.
    pub(crate) fn open(
        resources: Rc<Resources>,
        seat: Seat,
        stream: S,
        address: SocketAddr,
        room: Option<RoomId>,
        read_ahead: Vec<u8>,
    ) -> Self {
        let (id, queue) = resources.driver.connect(address, room);
        let now = std::time::Instant::now();
        Self {
            id,
            stream,
            websocket: None,
            meter: Meter::default(),
            throttle: Throttle::new(now),
            rest: (!read_ahead.is_empty()).then(|| Box::new(Rest::new(read_ahead))),
            queue,
            lifecycle: Lifecycle::Open,
            ticket: None,
            waits: true,
            new: TURNS_OF_NEWCOMERS,
            alive: now,
            stall_timer: None,
            resources,
            _seat: seat,
        }
    }

    fn poll_lifecycle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Lifecycle::Paused(until) = &mut self.lifecycle
            && until.as_mut().poll(cx).is_ready()
        {
            self.lifecycle = Lifecycle::Open;
        }
        let reads =
            matches!(self.lifecycle, Lifecycle::Open) && !self.queue.is_closed() && !self.queue.is_held();
        if reads && self.poll_turn(cx).is_ready() {
            match self.read(cx) {
                Read::Blocked | Read::Held | Read::Closing => {}
                Read::More => self.wait(cx),
                Read::Paused(until) => self.pause(until, cx),
                Read::Gone => self.leave(),
            }
        }
        if matches!(self.lifecycle, Lifecycle::Leaving) {
            return self.poll_turn(cx);
        }
        if matches!(self.lifecycle, Lifecycle::Open | Lifecycle::Paused(_)) && self.queue.is_closed() {
            self.lifecycle = Lifecycle::Parting(after(PARTING));
            (self.rest, self.websocket, self.stall_timer) = (None, None, None);
        }
        let written = match self.queue.poll_write(&mut self.stream, cx) {
            Poll::Ready(Err(_)) => {
                self.leave();
                return self.poll_turn(cx);
            }
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        if written && matches!(self.lifecycle, Lifecycle::Parting(_)) {
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => self.lifecycle = Lifecycle::Lingering(after(LINGER)),
                Poll::Pending => {}
            }
        }
        match &mut self.lifecycle {
            Lifecycle::Open | Lifecycle::Paused(_) => {
                self.limit_stalls(cx);
                Poll::Pending
            }
            Lifecycle::Leaving => Poll::Pending,
            Lifecycle::Parting(deadline) | Lifecycle::Lingering(deadline) => {
                if deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                self.discard(cx)
            }
        }
    }

    /// Reads messages and hands them to the Hub.
    fn read(&mut self, cx: &mut Context<'_>) -> Read {
        let end = self.read_messages(cx);
        let rest = self.rest.as_ref().map_or(0, |rest| rest.size());
        let websocket = self.websocket.as_ref().map_or(0, |_| READ_BUFFER + self.meter.incomplete_bytes());
        self.queue.set_inbound(rest + websocket);
        // tungstenite queues pongs even if a read returns no message.
        if self.queue.is_overflowed() {
            self.resources.driver.overflow(self.id);
        }
        self.resources.driver.keep_within_budget();
        end
    }

    fn read_messages(&mut self, cx: &mut Context<'_>) -> Read {
        let resources = self.resources.clone();
        let config = resources.context.config();
        let (now, rates) = (std::time::Instant::now(), Rates::new(&config.limits));
        let max_fragments = config.limits.max_fragments;
        let mut scratch = resources.scratch.borrow_mut();
        let before = scratch.received();
        let mut view = SocketView {
            stream: &mut self.stream,
            cx,
            scratch: &mut scratch,
            rest: &mut self.rest,
            meter: &mut self.meter,
            queue: &self.queue,
            allowance: Allowance { throttle: &mut self.throttle, rates, now, max_fragments },
            paused: None,
        };
        let mut websocket = match self.websocket.take() {
            Some(websocket) => websocket,
            // Often the task was woken only to write.
            None => match view.poll_fill() {
                Poll::Pending => return Read::Blocked,
                Poll::Ready(Ok(true)) => Box::new(websocket(config.limits.max_message)),
                Poll::Ready(Ok(false) | Err(_)) => return Read::Gone,
            },
        };
        let mut end = hand_over(&resources, self.id, &mut websocket, &mut view);
        let paused = view.paused;
        // If it is blocked, it has returned every complete message.
        if !matches!(end, Read::Blocked) || !self.meter.at_rest() {
            self.websocket = Some(websocket);
        }
        if let (Read::Blocked, Some(until)) = (&end, paused) {
            end = Read::Paused(until);
        }
        if let Some(rest) = scratch.take_rest() {
            self.rest = Some(rest);
        }
        let received = scratch.received() - before;
        drop(scratch);
        resources.context.metrics().received_bytes.add(received);
        if matches!(end, Read::Blocked) && self.meter.has_too_many_fragments(max_fragments) {
            return too_big(&resources, self.id, &self.queue);
        }
        if received > 0 && !self.meter.at_rest() && now - self.alive >= LIFE {
            // While a long message arrives over a slow link, the answer to a ping waits behind it.
            self.alive = now;
            resources.driver.handle(Input::Alive(self.id));
        }
        end
    }

    /// Closes the connection if a message does not arrive in time, or the first frame of the queue is not written in time,
    /// because it would hold memory without using it.
    fn limit_stalls(&mut self, cx: &mut Context<'_>) {
        loop {
            let message = self.meter.incomplete_since().map(|since| since.elapsed());
            let frame = self.queue.stuck_for();
            let Some(longest) = message.max(frame) else {
                return;
            };
            let limit = self.resources.context.config().limits.stall_timeout;
            if longest >= limit {
                if frame >= Some(limit) {
                    self.queue.overflow();
                    self.resources.driver.overflow(self.id);
                } else {
                    let reason = "a message took too long to arrive";
                    fail(&self.resources, self.id, &self.queue, CloseCode::Policy, reason);
                }
                // The next poll begins to close the connection.
                cx.waker().wake_by_ref();
                return;
            }
            // A timer that is already set fires early enough, because the present stall began later.
            let timer = self.stall_timer.get_or_insert_with(|| after(limit.saturating_sub(longest)));
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.stall_timer = None;
        }
    }

    /// Whether it may continue: immediately, or when its turn in the lane has come.
    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.waits {
            ready!(self.resources.lane.poll_turn(&mut self.ticket, cx));
            self.new = self.new.saturating_sub(1);
            self.waits = self.new > 0;
        }
        Poll::Ready(())
    }

    /// Queues for its next turn in the lane.
    fn wait(&mut self, cx: &Context<'_>) {
        self.waits = true;
        // This takes a ticket. The lane wakes the task.
        let _ = self.poll_turn(cx);
    }

    /// Ends the connection in its next turn in the lane.
    fn leave(&mut self) {
        self.lifecycle = Lifecycle::Leaving;
        self.waits = true;
    }

    /// Reads nothing until then. The peer counts as alive, because there is more to read.
    fn pause(&mut self, until: std::time::Instant, cx: &mut Context<'_>) {
        self.resources.context.metrics().pauses.add(1);
        self.resources.driver.handle(Input::Alive(self.id));
        let mut sleep = Box::pin(tokio::time::sleep_until(until.into()));
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.lifecycle = Lifecycle::Paused(sleep);
        // Peers that send too much are served after the others.
        self.waits = true;
    }

    /// Discards input until the peer is gone. One read per turn in the lane, so that the peer cannot occupy the thread.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_turn(cx));
        let result = ready!(self.resources.scratch.borrow_mut().discard(&mut self.stream, cx));
        let Ok(count @ 1..) = result else { return Poll::Ready(()) };
        self.resources.context.metrics().received_bytes.add(count as u64);
        self.wait(cx);
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = self.queue.begin_poll();
        let result = self.poll_lifecycle(cx);
        self.queue.end_poll(waker, cx);
        result
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.resources.driver.disconnect(self.id);
    }
}

/// Passes messages to the Hub until there are no more or the turn is over.
fn hand_over<S: AsyncRead + Unpin>(
    resources: &Resources,
    id: ConnId,
    websocket: &mut WebSocketContext,
    view: &mut SocketView<'_, '_, S>,
) -> Read {
    let queue = view.queue;
    let deliveries = || resources.context.metrics().delivered.get();
    let (before, mut bytes) = (deliveries(), 0);
    for _ in 0..MESSAGES_A_TURN {
        let delivered = deliveries();
        if delivered - before > DELIVERIES_A_TURN || bytes > BYTES_A_TURN {
            break;
        }
        let result = websocket.read(view);
        bytes += result.as_ref().map_or(0, Message::len);
        if matches!(result, Ok(Message::Close(_))) {
            // This queues the answer to it. The error only says that the WebSocket is closed.
            let _ = websocket.flush(view);
        }
        queue.begin_answer();
        let end = pass_to_hub(resources, id, queue, result);
        let (answers, owed) = queue.end_answer();
        let Allowance { throttle, rates, now, .. } = &mut view.allowance;
        throttle.delivered(*now, rates, deliveries() - delivered + owed);
        throttle.answered(*now, rates, answers);
        if let Some(end) = end {
            return end;
        }
        if queue.is_overflowed() {
            resources.driver.overflow(id);
        }
        if queue.is_closed() {
            return Read::Closing;
        }
        if queue.is_held() {
            return Read::Held;
        }
    }
    Read::More
}

/// Passes what was read to the Hub. `None`: reading may continue.
fn pass_to_hub(
    resources: &Resources,
    id: ConnId,
    queue: &Queue,
    result: Result<Message, Error>,
) -> Option<Read> {
    let driver = &resources.driver;
    match result {
        Ok(Message::Text(text)) => {
            // tungstenite has validated this already; validating it again costs less than an unsafe conversion would be
            // worth.
            match ByteString::try_from(bytes::Bytes::from(text)) {
                Ok(text) => driver.handle_message(id, Input::Frame(id, text)),
                Err(_) => driver.handle(Input::BadFrame(id)),
            }
        }
        Ok(Message::Binary(_)) => driver.handle(Input::BadFrame(id)),
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => driver.handle(Input::Alive(id)),
        Ok(Message::Close(_)) => {
            queue.end();
            driver.handle(Input::Disconnected(id));
            return Some(Read::Closing);
        }
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Some(Read::Blocked),
        Err(Error::Capacity(_)) => return Some(too_big(resources, id, queue)),
        // RFC 6455 section 8.1: text that is not UTF-8 fails the connection.
        Err(Error::Utf8(_)) => {
            return Some(fail(resources, id, queue, CloseCode::Invalid, "text must be UTF-8"));
        }
        Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
            return Some(Read::Gone);
        }
        Err(Error::Protocol(_)) => {
            return Some(fail(resources, id, queue, CloseCode::Protocol, "not the WebSocket protocol"));
        }
        Err(_) => return Some(Read::Gone),
    }
    None
}

/// Closes a connection whose message is too long, or consists of too many frames.
fn too_big(resources: &Resources, id: ConnId, queue: &Queue) -> Read {
    resources.driver.handle(Input::TooBig(id));
    // The Hub has closed it, unless it had forgotten it already. Nothing after such a frame can be read.
    queue.close(close::TOO_BIG, "message too big");
    Read::Closing
}

/// Closes a connection that breaks the WebSocket protocol.
fn fail(resources: &Resources, id: ConnId, queue: &Queue, code: CloseCode, reason: &str) -> Read {
    queue.close(code.into(), reason);
    resources.context.metrics().closed(code.into());
    resources.driver.handle(Input::Disconnected(id));
    Read::Closing
}

fn websocket(max_message: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
        // The old C++ client answers pings with unmasked frames.
        .accept_unmasked_frames(true);
    WebSocketContext::new(Role::Server, Some(config))
}

fn after(time: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep_until(Instant::now() + time))
}

#[cfg(test)]
mod tests;
