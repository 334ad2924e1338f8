//! Accepts connections: takes a seat for each, reads the PROXY header, completes the TLS handshake, and hands the
//! connection to HTTP (`http/request.rs`). A request that opens a WebSocket continues in `connection.rs`.
//!
//! Whatever fails concerns one connection: the loop in [`run`] never ends.

use super::{
    admission::{Seat, TurnedAway},
    connection::{Connection, Resources},
    door::{Door, Doors},
    proxies, proxy_header,
    socket::Socket,
};
use crate::http::{request, site::Site, visitor::Visitor};
use std::{convert::Infallible, io, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task,
    time::{self, Instant},
};
use tracing::warn;

/// The first and the longest pause after a failed accept. Such a failure (EMFILE) lasts until a connection ends, and
/// trying without a pause would take the processor from the connections that work.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Replaces a deadline that is too late for the clock.
const FOREVER: Duration = Duration::from_hours(365 * 24);
/// The time for which a peer may be silent, or leave data unacknowledged, before the system ends the connection. A peer that
/// acknowledges data and does not read it is closed earlier, with a reason.
const GONE: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// The parts of the server that accepting connections needs.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) doors: Rc<Doors>,
    pub(crate) site: Rc<Site>,
    pub(crate) resources: Rc<Resources>,
}

/// Accepts connections forever.
pub(crate) async fn run(listener: &TcpListener, door: Door, acceptor: &Rc<Acceptor>) -> Infallible {
    let mut pause = PAUSES.0;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                pause = PAUSES.0;
                let remote = (address.ip().to_canonical(), address.port()).into();
                acceptor.start(stream, door, remote);
                // One at a time, so that a crowd waits in the system's queue and not ahead of the messages of those
                // already connected.
                task::yield_now().await;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, ?pause, "cannot accept connections: check the limit of open files (ulimit -n)");
                time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

impl Acceptor {
    /// Starts the task of a connection, or turns it away.
    fn start(self: &Rc<Self>, stream: TcpStream, door: Door, remote: SocketAddr) {
        tune(&stream);
        let seat = match self.seat(door, remote) {
            Ok(seat) => seat,
            Err(reason) => return request::turn_away(&self.site, stream, remote, door, reason),
        };
        let admission = self.doors.admission(door);
        let handshake = admission.begin_handshake();
        let number = handshake.number();
        let now = Instant::now();
        let context = &self.resources.context;
        let deadline = now.checked_add(context.config().limits.head_timeout).unwrap_or(now + FOREVER);
        let local = stream.local_addr().ok();
        let handshake = Some(handshake);
        let visitor = Visitor { remote, door, local, seat, handshake, room: None, deadline };
        let acceptor = self.clone();
        let work = async move { acceptor.shake_hands(stream, visitor).await };
        let task = task::spawn_local(work).abort_handle();
        if admission.limit_handshakes(number, task, &context.config().limits) {
            context.metrics().handshakes_ended.add(1);
            context.log().handshake_ended();
        }
    }

    fn seat(&self, door: Door, remote: SocketAddr) -> Result<Seat, TurnedAway> {
        let admission = self.doors.admission(door);
        if door == Door::Operators {
            return admission.operator_seat();
        }
        let config = self.resources.context.config();
        let mut seat = admission.public_seat(&config.limits)?;
        // A trusted proxy names the client later, in the PROXY header or in the request.
        if !proxies::is_trusted(&config.trusted_proxies, remote.ip()) {
            seat.assign(std::time::Instant::now(), remote.ip(), &config.limits)?;
        }
        Ok(seat)
    }

    /// Reads the PROXY header and completes the TLS handshake, where they are configured.
    async fn shake_hands(&self, mut stream: TcpStream, mut visitor: Visitor) {
        let context = &self.resources.context;
        match self.identify(&mut stream, &mut visitor).await {
            Ok(()) => {}
            Err(Unidentified::TurnedAway(reason)) => {
                return request::turn_away(&self.site, stream, visitor.remote, visitor.door, reason);
            }
            Err(Unidentified::NoHeader(error)) => {
                context.metrics().proxy_errors.add(1);
                return context.log().no_proxy_header(visitor.remote, &error);
            }
        }
        let tls = context.config().tls.clone().filter(|_| visitor.door == Door::Public);
        let Some(tls) = tls else { return self.answer(stream, visitor).await };
        // A signature takes up to some milliseconds of this thread, so each step waits for its turn in the lane.
        let handshake = self.resources.lane.pace(tls.accept(stream));
        match time::timeout_at(visitor.deadline, Box::pin(handshake)).await {
            Ok(Ok(Ok(stream))) => self.answer(stream, visitor).await,
            Ok(Ok(Err(stream))) => Box::pin(request::explain_tls(&self.site, stream, visitor.remote)).await,
            Ok(Err(error)) => context.log().no_tls(visitor.remote, &error),
            Err(_) => context.log().no_tls(visitor.remote, &io::ErrorKind::TimedOut.into()),
        }
    }

    /// Reads the PROXY header, if that protocol is switched on and the peer is a trusted proxy, and counts the connection
    /// for the client that the header names.
    async fn identify(&self, stream: &mut TcpStream, visitor: &mut Visitor) -> Result<(), Unidentified> {
        let config = self.resources.context.config();
        let is_proxy = proxies::is_trusted(&config.trusted_proxies, visitor.remote.ip());
        if !config.proxy_protocol || visitor.door != Door::Public || !is_proxy {
            return Ok(());
        }
        let client = match time::timeout_at(visitor.deadline, proxy_header::read(stream)).await {
            Ok(client) => client.map_err(Unidentified::NoHeader)?,
            Err(_) => return Err(Unidentified::NoHeader(io::ErrorKind::TimedOut.into())),
        };
        let Some(client) = client else { return Ok(()) };
        visitor.remote = client;
        // A second proxy behind the first one names its client in the request.
        if proxies::is_trusted(&config.trusted_proxies, client.ip()) {
            return Ok(());
        }
        let now = std::time::Instant::now();
        visitor.seat.assign(now, client.ip(), &config.limits).map_err(Unidentified::TurnedAway)
    }

    /// Answers the request. The memory that it needs is freed before a WebSocket continues: hence the box, and a second
    /// task for the WebSocket.
    async fn answer<S: Socket + 'static>(&self, stream: S, visitor: Visitor) {
        let upgraded = Box::pin(request::answer(&self.site, stream, visitor)).await;
        if let Some((stream, Visitor { remote, seat, room, .. }, read_ahead)) = upgraded {
            let resources = self.resources.clone();
            task::spawn_local(Connection::open(resources, seat, stream, remote, room, read_ahead));
        }
    }
}

/// Sets the options of a socket. A connection works without an option that the system refuses.
fn tune(stream: &TcpStream) {
    // Otherwise a peer waits up to 40 ms for data that is already queued.
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    // These notice a peer that has vanished, whatever the state of the connection above.
    let probes = socket2::TcpKeepalive::new().with_time(GONE).with_interval(PROBE_EVERY).with_retries(PROBES);
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(GONE));
}

/// The reason for which a connection from a trusted proxy ends before its request.
enum Unidentified {
    /// A limit of the client's address is reached.
    TurnedAway(TurnedAway),
    /// The proxy sent no valid PROXY header in time.
    NoHeader(io::Error),
}

/// Whether the failure concerns the connection that was to be accepted, and not the next one.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_sockets_notice_a_peer_that_has_vanished() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tune(&stream);
        let socket = socket2::SockRef::from(&stream);
        assert!(stream.nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), GONE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), PROBE_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(GONE));
    }
}
