//! The minimal server on sockets: one thread on epoll that writes each message that it reads, without checks, limits,
//! queues, timers or close frames. Its costs are those of the operating system, so no server can cost less.
//!
//!     room-bare PORT

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use socket2::{Domain, Socket, Type};
use std::{
    collections::HashMap,
    env,
    io::{ErrorKind, IoSlice, Read, Write},
    net::{Ipv4Addr, SocketAddr},
};

const LISTENER: Token = Token(usize::MAX);
const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn main() -> Result<()> {
    let port = env::args().nth(1).context("usage: room-bare PORT")?.parse()?;
    let mut listener = listen(port)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut events, mut scratch) = (Events::with_capacity(1024), vec![0; 256 << 10]);
    let mut server = Server::default();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept(&listener, &poll)?,
                Token(seat) => server.read(seat, &mut scratch)?,
            }
        }
    }
}

/// Listens with a backlog for all clients that connect at the same time.
fn listen(port: u16) -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

#[derive(Default)]
struct Server {
    clients: Vec<Client>,
    seats: HashMap<Vec<u8>, usize>,
    rooms: HashMap<Vec<u8>, Vec<usize>>,
}

struct Client {
    stream: TcpStream,
    upgraded: bool,
    room: Vec<u8>,
    sends: bool,
    /// The beginning of a frame.
    inbox: Vec<u8>,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                result => result?.0,
            };
            stream.set_nodelay(true)?;
            poll.registry().register(&mut stream, Token(self.clients.len()), Interest::READABLE)?;
            let (room, inbox) = (Vec::new(), Vec::new());
            self.clients.push(Client { stream, upgraded: false, room, sends: false, inbox });
        }
    }

    fn read(&mut self, seat: usize, scratch: &mut [u8]) -> Result<()> {
        let client = &mut self.clients[seat];
        let count = match client.stream.read(scratch) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // Clients disconnect with a reset. Their numbers are not reused.
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => count,
        };
        let whole;
        let mut bytes = if client.inbox.is_empty() {
            &scratch[..count]
        } else {
            client.inbox.extend_from_slice(&scratch[..count]);
            whole = std::mem::take(&mut client.inbox);
            &whole
        };
        if !client.upgraded && memmem::find(bytes, b"\r\n\r\n").is_some() {
            client.upgraded = true;
            write(&mut client.stream, &[UPGRADED])?;
            return Ok(());
        }
        while let Some((payload, length)) = frame(bytes) {
            self.handle(seat, payload)?;
            bytes = &bytes[length..];
        }
        self.clients[seat].inbox.extend_from_slice(bytes);
        Ok(())
    }

    fn handle(&mut self, seat: usize, message: &[u8]) -> Result<()> {
        match field(message, b"\"type\":\"").context("no type")? {
            b"register" => {
                let id = field(message, b"\"client_id\":\"").context("no id")?;
                self.seats.insert(id.to_vec(), seat);
                self.send(seat, br#"{"type":"registered"}"#)
            }
            b"join" => {
                let room = field(message, b"\"room_id\":\"").context("no room")?;
                let client = &mut self.clients[seat];
                room.clone_into(&mut client.room);
                client.sends = memmem::find(message, b"\"sender\"").is_some();
                self.send(seat, br#"{"type":"joined"}"#)?;
                self.send_to_opposite(seat, br#"{"type":"peer_joined"}"#)?;
                self.rooms.entry(room.to_vec()).or_default().push(seat);
                Ok(())
            }
            _ => match field(message, b"\"target_id\":\"") {
                Some(target) => self.send(*self.seats.get(target).context("the target is unknown")?, message),
                None => self.send_to_opposite(seat, message),
            },
        }
    }

    fn send_to_opposite(&mut self, seat: usize, message: &[u8]) -> Result<()> {
        let Client { room, sends, .. } = &self.clients[seat];
        let sends = *sends;
        for other in self.rooms.get(room).cloned().unwrap_or_default() {
            if self.clients[other].sends != sends {
                self.send(other, message)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, seat: usize, message: &[u8]) -> Result<()> {
        let length = u16::try_from(message.len())?;
        let [high, low] = length.to_be_bytes();
        let long = [0x81, 126, high, low];
        let header = if length < 126 { &[0x81, low][..] } else { &long };
        write(&mut self.clients[seat].stream, &[header, message])
    }
}

fn write(stream: &mut TcpStream, parts: &[&[u8]]) -> Result<()> {
    let mut slices = [IoSlice::new(&[]); 2];
    for (slice, part) in slices.iter_mut().zip(parts) {
        *slice = IoSlice::new(part);
    }
    let length: usize = parts.iter().map(|part| part.len()).sum();
    match stream.write_vectored(&slices) {
        Ok(count) => ensure!(count == length, "a client reads too slowly"),
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
        Err(error) => bail!("can't write: {error}"),
    }
    Ok(())
}

/// The payload of the first frame, and the length of that frame. The generator's masks are 0, so no unmasking is needed.
fn frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, start) = match bytes {
        [_, 0xfe, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 8),
        [_, length, ..] => (usize::from(length & 0x7f), 6),
        _ => return None,
    };
    Some((bytes.get(start..start + length)?, start + length))
}

/// The string value of a key. `key` includes the quotes and the colon.
fn field<'a>(message: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let value = &message[memmem::find(message, key)? + key.len()..];
    Some(&value[..memchr::memchr(b'"', value)?])
}
