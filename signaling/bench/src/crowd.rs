//! Many clients in one thread, close to the system calls, so that the load generator does not limit the measurement.

use crate::frames::{self, Frame, Received};
use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, SockRef, Socket, Type};
use std::{
    collections::VecDeque,
    io::{ErrorKind, IoSlice, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

const BUFFER: usize = 256 << 10;
/// The most frames in one write.
const FRAMES_PER_WRITE: usize = 32;
/// The receive buffer of a client that does not read, in bytes.
const DEAF_BUFFER: usize = 4 << 10;
/// How long an answer may take. On the loopback interface, each takes far less.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// The number of a client in its crowd.
pub(crate) type Seat = usize;

/// An event of a client.
pub(crate) enum Event<'a> {
    /// Its WebSocket is open.
    Open,
    /// This text arrived.
    Text(&'a [u8]),
    /// The server ended its connection.
    Closed,
}

/// Clients of one server.
pub(crate) struct Crowd {
    server: SocketAddr,
    /// The first request of a client.
    upgrade: Frame,
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    /// Sockets that are ready to connect.
    ready: VecDeque<Socket>,
    /// Each client has its own address, because servers limit connections per address.
    next_address: u32,
}

struct Client {
    stream: TcpStream,
    upgraded: bool,
    deaf: bool,
    gone: bool,
    /// The beginning of a frame.
    inbox: Vec<u8>,
    outbox: VecDeque<Frame>,
    /// The number of bytes of the first frame in the outbox that are written.
    written: usize,
}

/// Collects the frames that clients send in reaction to an event.
#[derive(Default)]
pub(crate) struct Replies {
    frames: Vec<(Seat, Frame)>,
}

impl Replies {
    pub(crate) fn send(&mut self, seat: Seat, frame: &Frame) {
        self.frames.push((seat, frame.clone()));
    }
}

impl Crowd {
    pub(crate) fn new(server: SocketAddr) -> Result<Self> {
        let upgrade = format!(
            "GET /ws HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        Ok(Self {
            server,
            upgrade: Frame::raw(upgrade.as_bytes()),
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            clients: Vec::new(),
            buffer: vec![0; BUFFER].into(),
            ready: VecDeque::new(),
            next_address: 0,
        })
    }

    /// Makes the sockets of the next clients, so that this work is not measured.
    pub(crate) fn prepare(&mut self, clients: usize) -> Result<()> {
        while self.ready.len() < clients {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            // Thousands of closed sockets in TIME_WAIT would take the ports of the next clients.
            socket.set_linger(Some(Duration::ZERO))?;
            socket.bind(&SocketAddr::from((self.own_address(), 0)).into())?;
            self.ready.push_back(socket);
        }
        Ok(())
    }

    /// Begins to connect another client.
    pub(crate) fn connect(&mut self) -> Result<Seat> {
        self.prepare(1)?;
        let socket = self.ready.pop_front().context("no socket is ready")?;
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            result => result.context("can't connect")?,
        }
        let mut stream = TcpStream::from_std(socket.into());
        let seat = self.clients.len();
        self.poll.registry().register(&mut stream, Token(seat), Interest::READABLE | Interest::WRITABLE)?;
        self.clients.push(Client {
            stream,
            upgraded: false,
            deaf: false,
            gone: false,
            inbox: Vec::new(),
            outbox: [self.upgrade.clone()].into(),
            written: 0,
        });
        Ok(seat)
    }

    /// The next address, from 127.1.0.0 on. All of 127.0.0.0/8 is this machine.
    fn own_address(&mut self) -> Ipv4Addr {
        self.next_address = (self.next_address + 1) % 0x00fe_0000;
        Ipv4Addr::from_bits(0x7f01_0000 + self.next_address)
    }

    /// Makes a client stop reading, with a small receive buffer.
    pub(crate) fn deafen(&mut self, seat: Seat) -> Result<()> {
        let client = &mut self.clients[seat];
        client.deaf = true;
        Ok(SockRef::from(&client.stream).set_recv_buffer_size(DEAF_BUFFER)?)
    }

    /// Sends a frame immediately.
    pub(crate) fn send(&mut self, seat: Seat, frame: &Frame) -> Result<()> {
        let client = &mut self.clients[seat];
        client.outbox.push_back(frame.clone());
        client.flush()
    }

    /// The number of frames that a client could not write yet.
    pub(crate) fn unsent(&self, seat: Seat) -> usize {
        self.clients[seat].outbox.len()
    }

    /// Waits for events, and passes them to `on`. Returns whether there were any.
    ///
    /// It polls without sleeping. Waking a sleeping processor would be charged to the server, in each of its writes.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut on: impl FnMut(&mut Replies, Seat, Event<'_>) -> Result<()>,
    ) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => result?,
            }
            if !self.events.is_empty() || Instant::now() >= deadline {
                break;
            }
        }
        let mut replies = Replies::default();
        for event in &self.events {
            let seat = event.token().0;
            let client = &mut self.clients[seat];
            if client.gone {
                continue;
            }
            if event.is_writable() {
                client.flush()?;
            }
            if client.deaf {
                if event.is_read_closed() || event.is_error() {
                    client.end();
                    on(&mut replies, seat, Event::Closed)?;
                }
            } else if event.is_readable() {
                client.read(seat, &mut self.buffer, &mut replies, &mut on)?;
            }
            for (seat, frame) in replies.frames.drain(..) {
                self.clients[seat].outbox.push_back(frame);
            }
            self.clients[seat].flush()?;
        }
        Ok(!self.events.is_empty())
    }

    /// Calls [`Crowd::turn`] until `on` has counted `wanted`. Fails if that takes too long.
    pub(crate) fn count(
        &mut self,
        what: &str,
        wanted: usize,
        mut on: impl FnMut(&mut Replies, Seat, Event<'_>) -> Result<usize>,
    ) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        let mut counted = 0;
        while counted < wanted {
            ensure!(Instant::now() < deadline, "{counted} of {wanted} within {TIMEOUT:?}: {what}");
            self.turn(Duration::from_millis(100), |replies, seat, event| {
                counted += on(replies, seat, event)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Receives messages until none arrives for a moment.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while self.turn(Duration::from_millis(100), |_, _, _| Ok(()))? {
            ensure!(Instant::now() < deadline, "the server keeps sending");
        }
        Ok(())
    }
}

impl Client {
    fn end(&mut self) {
        self.gone = true;
        self.outbox.clear();
        // Without linger, this is a reset. An error means that the connection has ended already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Reads until a read fills less than the buffer.
    fn read(
        &mut self,
        seat: Seat,
        buffer: &mut [u8],
        replies: &mut Replies,
        on: &mut impl FnMut(&mut Replies, Seat, Event<'_>) -> Result<()>,
    ) -> Result<()> {
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => 0,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(error).context("a client can't read"),
            };
            if count == 0 {
                self.end();
                return on(replies, seat, Event::Closed);
            }
            if self.inbox.is_empty() {
                let used = self.handle(seat, &buffer[..count], replies, on)?;
                self.inbox.extend_from_slice(&buffer[used..count]);
            } else {
                let mut bytes = std::mem::take(&mut self.inbox);
                bytes.extend_from_slice(&buffer[..count]);
                let used = self.handle(seat, &bytes, replies, on)?;
                bytes.drain(..used);
                self.inbox = bytes;
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Handles all complete frames in `bytes`, and returns their length.
    fn handle(
        &mut self,
        seat: Seat,
        bytes: &[u8],
        replies: &mut Replies,
        on: &mut impl FnMut(&mut Replies, Seat, Event<'_>) -> Result<()>,
    ) -> Result<usize> {
        let mut used = 0;
        if !self.upgraded {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            let head = String::from_utf8_lossy(&bytes[..end]);
            ensure!(head.starts_with("HTTP/1.1 101"), "the server refuses a WebSocket: {head}");
            self.upgraded = true;
            on(replies, seat, Event::Open)?;
            used = end + 4;
        }
        while let Some((received, length)) = frames::first(&bytes[used..])? {
            match received {
                Received::Text(text) => on(replies, seat, Event::Text(text))?,
                Received::Ping(payload) => replies.send(seat, &Frame::pong(payload)),
                Received::Close => {}
            }
            used += length;
        }
        Ok(used)
    }

    fn flush(&mut self) -> Result<()> {
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let mut skip = self.written;
            let mut count = 0;
            for (slice, frame) in slices.iter_mut().zip(&self.outbox) {
                *slice = IoSlice::new(&frame.bytes()[skip..]);
                skip = 0;
                count += 1;
            }
            match self.stream.write_vectored(&slices[..count]) {
                Ok(written) => self.advance(written),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(());
                }
                // The next read reports the end, unless the client does not read.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    self.outbox.clear();
                    return Ok(());
                }
                Err(error) => bail!("a client can't write: {error}"),
            }
        }
        Ok(())
    }

    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(frame) = self.outbox.front().filter(|frame| frame.bytes().len() <= self.written) {
            self.written -= frame.bytes().len();
            self.outbox.pop_front();
        }
    }
}
