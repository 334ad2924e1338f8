//! One WebSocket connection: a task that reads messages for the Hub and writes what the Hub has queued. It works in
//! turns, so that no connection keeps the thread from the others.

use super::{
    admission::Place,
    io::{Allowance, Meter, Rest, Turn},
    lane::Ticket,
    queue::Queue,
    throttle::{Rates, Throttle},
};
use crate::driver::shell::Shell;
use room_protocol::{
    ByteString, RoomId,
    hub::{ConnId, Input},
    wire::close,
};
use std::{
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

/// What tungstenite reads at a time: most messages as a whole.
const READ_BUFFER: usize = 4 << 10;
/// Messages of one turn, and deliveries that they may cause.
const MESSAGES_A_TURN: usize = 32;
const DELIVERIES_A_TURN: u64 = 32;
/// Bytes of one turn. The last message may exceed it.
const BYTES_A_TURN: usize = 32 << 10;
/// A new connection takes its first turns in the lane, so that a crowd of newcomers does not hold up those already here.
const TURNS_OF_NEWCOMERS: u8 = 2;
/// How long the last words may take to be written.
const PARTING: Duration = Duration::from_secs(5);
/// How long input is discarded after the last words.
const LINGER: Duration = Duration::from_secs(1);
/// How often bytes of a message that is not whole yet count as a sign of life.
const LIFE: Duration = Duration::from_secs(1);

/// One connection, to be polled until its end. An async function would keep the socket twice, so this is a future by
/// hand.
pub(crate) struct Connection<S> {
    id: ConnId,
    stream: S,
    /// Present while a part of a message is in it. Its buffers grow with the messages, and an idle connection should cost
    /// next to nothing.
    websocket: Option<Box<WebSocketContext>>,
    meter: Meter,
    throttle: Throttle,
    rest: Option<Box<Rest>>,
    queue: Rc<Queue>,
    phase: Phase,
    /// Its place in the lane.
    ticket: Option<Ticket>,
    /// Whether its next turn is in the lane.
    waits: bool,
    /// The number of turns for which it still counts as a newcomer.
    new: u8,
    /// The last sign of life from a message that is not whole yet.
    alive: std::time::Instant,
    /// Fires no later than a stall may be over. Most connections never need it.
    patience: Option<Pin<Box<Sleep>>>,
    shell: Rc<Shell>,
    /// Its place among the connections that the server takes.
    _place: Place,
}

enum Phase {
    /// Messages go both ways.
    Open,
    /// The peer has exceeded its rates: nothing is read until then.
    Paused(Pin<Box<Sleep>>),
    /// The socket is gone. The Hub hears of it in the connection's turn.
    Leaving,
    /// The last words are being written; input is discarded.
    Parting(Pin<Box<Sleep>>),
    /// They are written and the write side is shut. Input is still discarded; otherwise a reset could destroy them.
    Lingering(Pin<Box<Sleep>>),
}

/// How a turn of reading ended.
enum Read {
    /// There is nothing more to read for now.
    Blocked,
    /// There may be more. It waits for another turn.
    More,
    /// There is more. It waits until then.
    Paused(std::time::Instant),
    /// There may be more. It waits until the Hub releases the connection.
    Held,
    /// The connection is to be closed: its queue is.
    Closing,
    /// The socket is gone.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection that has been upgraded. `room` is named by its URL; `read_ahead` arrived behind the head of the
    /// request.
    pub(crate) fn open(
        shell: Rc<Shell>,
        place: Place,
        stream: S,
        address: SocketAddr,
        room: Option<RoomId>,
        read_ahead: Vec<u8>,
    ) -> Self {
        let (id, queue) = shell.connect(address, room);
        let now = std::time::Instant::now();
        Self {
            id,
            stream,
            websocket: None,
            meter: Meter::default(),
            throttle: Throttle::new(now),
            rest: (!read_ahead.is_empty()).then(|| Box::new(Rest::new(read_ahead))),
            queue,
            phase: Phase::Open,
            ticket: None,
            waits: true,
            new: TURNS_OF_NEWCOMERS,
            alive: now,
            patience: None,
            shell,
            _place: place,
        }
    }

    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Phase::Paused(until) = &mut self.phase
            && until.as_mut().poll(cx).is_ready()
        {
            self.phase = Phase::Open;
        }
        let reads = matches!(self.phase, Phase::Open) && !self.queue.is_closed() && !self.queue.is_held();
        if reads && self.poll_turn(cx).is_ready() {
            match self.read(cx) {
                Read::Blocked | Read::Held | Read::Closing => {}
                Read::More => self.wait(cx),
                Read::Paused(until) => self.pause(until, cx),
                Read::Gone => self.leave(),
            }
        }
        if matches!(self.phase, Phase::Leaving) {
            return self.poll_turn(cx);
        }
        if matches!(self.phase, Phase::Open | Phase::Paused(_)) && self.queue.is_closed() {
            self.phase = Phase::Parting(after(PARTING));
            (self.rest, self.websocket, self.patience) = (None, None, None);
        }
        let written = match self.queue.poll_write(&mut self.stream, cx) {
            Poll::Ready(Err(_)) => {
                self.leave();
                return self.poll_turn(cx);
            }
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        if written && matches!(self.phase, Phase::Parting(_)) {
            match Pin::new(&mut self.stream).poll_shutdown(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => self.phase = Phase::Lingering(after(LINGER)),
                Poll::Pending => {}
            }
        }
        match &mut self.phase {
            Phase::Open | Phase::Paused(_) => {
                self.keep_patience(cx);
                Poll::Pending
            }
            Phase::Leaving => Poll::Pending,
            Phase::Parting(deadline) | Phase::Lingering(deadline) => {
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
        // Tungstenite queues pongs, also in a read that brings no message.
        if self.queue.is_overflowed() {
            self.shell.overflow(self.id);
        }
        self.shell.keep_within_budget();
        end
    }

    fn read_messages(&mut self, cx: &mut Context<'_>) -> Read {
        let shell = self.shell.clone();
        let config = shell.config();
        let (now, rates) = (std::time::Instant::now(), Rates::new(&config.limits));
        let max_fragments = config.limits.max_fragments;
        let mut scratch = shell.scratch();
        let received = scratch.received();
        let mut turn = Turn {
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
            // Often there is only something to write.
            None => match turn.poll_fill() {
                Poll::Pending => return Read::Blocked,
                Poll::Ready(Ok(true)) => Box::new(websocket(config.limits.max_message)),
                Poll::Ready(Ok(false) | Err(_)) => return Read::Gone,
            },
        };
        let mut end = hand_over(&shell, self.id, &mut websocket, &mut turn);
        let paused = turn.paused;
        // Blocked, it has told of every message that was whole.
        if !matches!(end, Read::Blocked) || !self.meter.at_rest() {
            self.websocket = Some(websocket);
        }
        if let (Read::Blocked, Some(until)) = (&end, paused) {
            end = Read::Paused(until);
        }
        if let Some(rest) = scratch.take_rest() {
            self.rest = Some(rest);
        }
        let has_received = scratch.received() > received;
        drop(scratch);
        if matches!(end, Read::Blocked) && self.meter.has_too_many_fragments(max_fragments) {
            return too_big(&shell, self.id, &self.queue);
        }
        if has_received && !self.meter.at_rest() && now - self.alive >= LIFE {
            // A long message on a slow link: the answer to a ping would come behind it.
            self.alive = now;
            shell.handle(Input::Alive(self.id));
        }
        end
    }

    /// Closes the connection if a message does not arrive, or the first frame of the queue is not written, in time: it
    /// would hold memory without use for it.
    fn keep_patience(&mut self, cx: &mut Context<'_>) {
        loop {
            let message = self.meter.incomplete_since().map(|since| since.elapsed());
            let frame = self.queue.stuck_for();
            let Some(longest) = message.max(frame) else {
                return;
            };
            let limit = self.shell.config().limits.stall_timeout;
            if longest >= limit {
                if frame >= Some(limit) {
                    self.queue.overflow();
                    self.shell.overflow(self.id);
                } else {
                    let reason = "a message took too long to arrive";
                    fail(&self.shell, self.id, &self.queue, CloseCode::Policy, reason);
                }
                // The next turn parts.
                cx.waker().wake_by_ref();
                return;
            }
            // A timer that is set already fires early enough, because what is waited for now began later.
            let timer = self.patience.get_or_insert_with(|| after(limit.saturating_sub(longest)));
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.patience = None;
        }
    }

    /// Whether it may continue: at once, or when its turn in the lane has come.
    fn poll_turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.waits {
            ready!(self.shell.lane().poll_turn(&mut self.ticket, cx));
            self.new = self.new.saturating_sub(1);
            self.waits = self.new > 0;
        }
        Poll::Ready(())
    }

    /// Takes the next turn in the lane.
    fn wait(&mut self, cx: &Context<'_>) {
        self.waits = true;
        // This takes a ticket. The turn wakes the task.
        let _ = self.poll_turn(cx);
    }

    /// Ends the connection in its turn.
    fn leave(&mut self) {
        self.phase = Phase::Leaving;
        self.waits = true;
    }

    /// Leaves what the peer sends in its socket for a while. The peer counts as alive, because more of it is there.
    fn pause(&mut self, until: std::time::Instant, cx: &mut Context<'_>) {
        self.shell.paused(self.id);
        let mut sleep = Box::pin(tokio::time::sleep_until(until.into()));
        if sleep.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.phase = Phase::Paused(sleep);
        // Peers that send too much come after those that don't.
        self.waits = true;
    }

    /// Discards what arrives until the peer is gone, a read in each turn of the lane: the peer can't fill the thread.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_turn(cx));
        let result = ready!(self.shell.scratch().discard(&mut self.stream, cx));
        if !matches!(result, Ok(1..)) {
            return Poll::Ready(());
        }
        self.wait(cx);
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Connection<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = self.queue.begin_turn();
        let result = self.poll_phase(cx);
        self.queue.end_turn(waker, cx);
        result
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.shell.disconnect(self.id);
    }
}

/// Hands messages to the Hub until there are no more, or others have to have their turn.
fn hand_over<S: AsyncRead + Unpin>(
    shell: &Shell,
    id: ConnId,
    websocket: &mut WebSocketContext,
    turn: &mut Turn<'_, '_, S>,
) -> Read {
    let queue = turn.queue;
    let (before, mut bytes) = (shell.delivered(), 0);
    for _ in 0..MESSAGES_A_TURN {
        let delivered = shell.delivered();
        if delivered - before > DELIVERIES_A_TURN || bytes > BYTES_A_TURN {
            break;
        }
        let result = websocket.read(turn);
        bytes += result.as_ref().map_or(0, Message::len);
        if matches!(result, Ok(Message::Close(_))) {
            // The answer to it is queued. That this is the end is no error here.
            let _ = websocket.flush(turn);
        }
        queue.begin_answer();
        let end = take(shell, id, queue, result);
        let (answers, owed) = queue.end_answer();
        let Allowance { throttle, rates, now, .. } = &mut turn.allowance;
        throttle.delivered(*now, rates, shell.delivered() - delivered + owed);
        throttle.answered(*now, rates, answers);
        if let Some(end) = end {
            return end;
        }
        if queue.is_overflowed() {
            shell.overflow(id);
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

/// Tells the Hub what was read. `None`: reading may continue.
fn take(shell: &Shell, id: ConnId, queue: &Queue, result: Result<Message, Error>) -> Option<Read> {
    match result {
        Ok(Message::Text(text)) => {
            // tungstenite has validated this already; validating it again costs less than an unsafe conversion would be
            // worth.
            match ByteString::try_from(bytes::Bytes::from(text)) {
                Ok(text) => shell.handle_in_turn(id, Input::Frame(id, text)),
                Err(_) => shell.handle(Input::BadFrame(id)),
            }
        }
        Ok(Message::Binary(_)) => shell.handle(Input::BadFrame(id)),
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => shell.handle(Input::Alive(id)),
        Ok(Message::Close(_)) => {
            queue.end();
            shell.handle(Input::Disconnected(id));
            return Some(Read::Closing);
        }
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Some(Read::Blocked),
        Err(Error::Capacity(_)) => return Some(too_big(shell, id, queue)),
        // RFC 6455 section 8.1: text that is not UTF-8 fails the connection.
        Err(Error::Utf8(_)) => return Some(fail(shell, id, queue, CloseCode::Invalid, "text must be UTF-8")),
        Err(Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
            return Some(Read::Gone);
        }
        Err(Error::Protocol(_)) => {
            return Some(fail(shell, id, queue, CloseCode::Protocol, "not the WebSocket protocol"));
        }
        Err(_) => return Some(Read::Gone),
    }
    None
}

/// Closes a connection whose message is too long, or in too many pieces.
fn too_big(shell: &Shell, id: ConnId, queue: &Queue) -> Read {
    shell.handle(Input::TooBig(id));
    // The Hub has closed it, unless it is gone already. Nothing can be read behind such a frame.
    queue.close(close::TOO_BIG, "message too big");
    Read::Closing
}

/// Closes a connection that breaks the WebSocket protocol.
fn fail(shell: &Shell, id: ConnId, queue: &Queue, code: CloseCode, reason: &str) -> Read {
    queue.close(code.into(), reason);
    shell.metrics().closed(code.into());
    shell.handle(Input::Disconnected(id));
    Read::Closing
}

fn websocket(max_message: usize) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
        // The old C++ client answers pings so.
        .accept_unmasked_frames(true);
    WebSocketContext::new(Role::Server, Some(config))
}

fn after(time: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep_until(Instant::now() + time))
}
