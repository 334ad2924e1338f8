//! Many clients in one thread, close to the system calls: the generator shall never be what is measured.

use crate::frames::{self, Frame, Said};
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
/// Frames given to one write.
const FRAMES_A_WRITE: usize = 32;
/// What a client that doesn't read lets the system keep for it.
const DEAF_BUFFER: usize = 4 << 10;
/// Long enough for any answer on the loopback interface.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Which client of a crowd.
pub(crate) type Seat = usize;

/// What happens to a client.
pub(crate) enum Event<'a> {
    /// Its WebSocket is open.
    Open,
    /// This text came.
    Text(&'a [u8]),
    /// The server ended its connection.
    Closed,
}

/// Clients of one server.
pub(crate) struct Crowd {
    server: SocketAddr,
    /// What a client says first.
    upgrade: Frame,
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    /// Sockets that are ready to connect.
    ready: VecDeque<Socket>,
    /// Each client has an address of its own, as the limits of a server by address want it.
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
    /// Bytes of the first frame in the outbox that are written.
    written: usize,
}

/// Takes what clients want to say, while it is being told what they hear.
#[derive(Default)]
pub(crate) struct Mouth {
    frames: Vec<(Seat, Frame)>,
}

impl Mouth {
    pub(crate) fn say(&mut self, seat: Seat, frame: &Frame) {
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

    /// Makes sockets for the next clients, so that their making is not measured.
    pub(crate) fn prepare(&mut self, clients: usize) -> Result<()> {
        while self.ready.len() < clients {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            // The end of thousands must leave no sockets in TIME_WAIT that the next thousands miss.
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

    /// 127.1.0.0 and so on: all of 127.0.0.0/8 is this machine.
    fn own_address(&mut self) -> Ipv4Addr {
        self.next_address = (self.next_address + 1) % 0x00fe_0000;
        Ipv4Addr::from_bits(0x7f01_0000 + self.next_address)
    }

    /// From now on a client reads nothing, and hardly anything is kept for it at its end.
    pub(crate) fn deafen(&mut self, seat: Seat) -> Result<()> {
        let client = &mut self.clients[seat];
        client.deaf = true;
        Ok(SockRef::from(&client.stream).set_recv_buffer_size(DEAF_BUFFER)?)
    }

    /// Says something now.
    pub(crate) fn say(&mut self, seat: Seat, frame: &Frame) -> Result<()> {
        let client = &mut self.clients[seat];
        client.outbox.push_back(frame.clone());
        client.flush()
    }

    /// How many frames a client could not write yet.
    pub(crate) fn unsaid(&self, seat: Seat) -> usize {
        self.clients[seat].outbox.len()
    }

    /// Waits for something to happen, at most for a time, and tells `on` of it. Returns whether anything did.
    ///
    /// Waits busily: to wake a processor that sleeps would cost the server, who pays for it in each of its writes.
    pub(crate) fn turn(
        &mut self,
        timeout: Duration,
        mut on: impl FnMut(&mut Mouth, Seat, Event<'_>) -> Result<()>,
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
        let mut mouth = Mouth::default();
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
                    client.leave();
                    on(&mut mouth, seat, Event::Closed)?;
                }
            } else if event.is_readable() {
                client.hear(seat, &mut self.buffer, &mut mouth, &mut on)?;
            }
            for (seat, frame) in mouth.frames.drain(..) {
                self.clients[seat].outbox.push_back(frame);
            }
            self.clients[seat].flush()?;
        }
        Ok(!self.events.is_empty())
    }

    /// Turns until what `on` counts comes to `wanted`. Fails where that takes too long.
    pub(crate) fn count(
        &mut self,
        what: &str,
        wanted: usize,
        mut on: impl FnMut(&mut Mouth, Seat, Event<'_>) -> Result<usize>,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut counted = 0;
        while counted < wanted {
            ensure!(Instant::now() < deadline, "{counted} of {wanted} within {PATIENCE:?}: {what}");
            self.turn(Duration::from_millis(100), |mouth, seat, event| {
                counted += on(mouth, seat, event)?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Hears what is still on its way, until nothing comes for a moment.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.turn(Duration::from_millis(100), |_, _, _| Ok(()))? {
            ensure!(Instant::now() < deadline, "the server doesn't come to rest");
        }
        Ok(())
    }
}

impl Client {
    fn leave(&mut self) {
        self.gone = true;
        self.outbox.clear();
        // With linger at 0 this is a reset; a client that is gone already can't be told.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Reads once, or until nothing comes: a read that fills less than the buffer was the last one.
    fn hear(
        &mut self,
        seat: Seat,
        buffer: &mut [u8],
        mouth: &mut Mouth,
        on: &mut impl FnMut(&mut Mouth, Seat, Event<'_>) -> Result<()>,
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
                self.leave();
                return on(mouth, seat, Event::Closed);
            }
            if self.inbox.is_empty() {
                let used = self.take(seat, &buffer[..count], mouth, on)?;
                self.inbox.extend_from_slice(&buffer[used..count]);
            } else {
                let mut bytes = std::mem::take(&mut self.inbox);
                bytes.extend_from_slice(&buffer[..count]);
                let used = self.take(seat, &bytes, mouth, on)?;
                bytes.drain(..used);
                self.inbox = bytes;
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Tells of all that is whole in `bytes`, and returns how much that was.
    fn take(
        &mut self,
        seat: Seat,
        bytes: &[u8],
        mouth: &mut Mouth,
        on: &mut impl FnMut(&mut Mouth, Seat, Event<'_>) -> Result<()>,
    ) -> Result<usize> {
        let mut used = 0;
        if !self.upgraded {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            let head = String::from_utf8_lossy(&bytes[..end]);
            ensure!(head.starts_with("HTTP/1.1 101"), "the server refuses a WebSocket: {head}");
            self.upgraded = true;
            on(mouth, seat, Event::Open)?;
            used = end + 4;
        }
        while let Some((said, length)) = frames::first(&bytes[used..])? {
            match said {
                Said::Text(text) => on(mouth, seat, Event::Text(text))?,
                Said::Ping(payload) => mouth.say(seat, &Frame::pong(payload)),
                Said::Close => {}
            }
            used += length;
        }
        Ok(used)
    }

    fn flush(&mut self) -> Result<()> {
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); FRAMES_A_WRITE];
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
                // The end is told by the next read, unless nobody reads.
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
