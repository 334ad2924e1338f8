//! Takes connections, whatever goes wrong with one of them.

use super::{
    admission::{Place, Refusal},
    connection::Connection,
    door::Door,
    proxies, proxy_header,
};
use crate::{
    driver::shell::Shell,
    http::request::{self, Visitor},
};
use std::{convert::Infallible, io, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task,
    time::{self, Instant},
};
use tracing::warn;

/// How long to wait after a failed accept, at first and at most. Such a failure (EMFILE) lasts until some connection
/// ends, and trying without a pause would burn the processor that the others need.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Stands for a deadline that no clock can name.
const FOREVER: Duration = Duration::from_hours(365 * 24);
/// How long a peer may be silent, or leave data unacknowledged, before the system ends the connection. A peer that only
/// does not read is closed earlier, with a reason.
const GONE: Duration = Duration::from_mins(1);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;

/// Takes connections for ever.
pub(crate) async fn run(listener: &TcpListener, door: Door, shell: &Rc<Shell>) -> Infallible {
    let mut pause = PAUSES.0;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                pause = PAUSES.0;
                take(shell, stream, door, (address.ip().to_canonical(), address.port()).into());
                // One newcomer at a time: a crowd of them waits in the system's queue, and not before the messages of
                // those who are in.
                task::yield_now().await;
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, ?pause, "can't take connections: is the limit of open files (ulimit -n) too low?");
                time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Takes a connection, or says why not.
fn take(shell: &Rc<Shell>, stream: TcpStream, door: Door, remote: SocketAddr) {
    tune(&stream);
    let place = match admit(shell, door, remote) {
        Ok(place) => place,
        Err(refusal) => return request::turn_away(shell, stream, remote, door, refusal),
    };
    let admission = shell.admission(door);
    let handshake = admission.begin_handshake();
    let number = handshake.number();
    let now = Instant::now();
    let deadline = now.checked_add(shell.config().limits.head_timeout).unwrap_or(now + FOREVER);
    let visitor = Visitor { remote, door, local: stream.local_addr().ok(), place, room: None, deadline };
    let work = {
        let shell = shell.clone();
        async move {
            welcome(&shell, stream, visitor).await;
            drop(handshake);
        }
    };
    let task = task::spawn_local(work).abort_handle();
    if admission.run_handshake(number, task, &shell.config().limits) {
        shell.metrics().made_way.add(1);
        shell.log().made_way();
    }
}

/// Sets the options of a socket. If the system refuses one, the connection works all the same.
fn tune(stream: &TcpStream) {
    // Otherwise a peer waits up to 40 ms for what is already queued.
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    // A peer that vanished is noticed, whatever the state of the connection above.
    let probes = socket2::TcpKeepalive::new().with_time(GONE).with_interval(PROBE_EVERY).with_retries(PROBES);
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(GONE));
}

/// Shakes hands, where there is TLS.
async fn welcome(shell: &Rc<Shell>, mut stream: TcpStream, mut visitor: Visitor) {
    match meet(shell, &mut stream, &mut visitor).await {
        Met::Anybody => {}
        Met::Over(refusal) => {
            return request::turn_away(shell, stream, visitor.remote, visitor.door, refusal);
        }
        Met::Nobody(error) => {
            shell.metrics().proxy_errors.add(1);
            return shell.log().no_proxy_header(visitor.remote, &error);
        }
    }
    let tls = shell.config().tls.clone().filter(|_| visitor.door == Door::Public);
    let Some(tls) = tls else { return converse(shell, stream, visitor).await };
    // Signing takes up to some milliseconds of this thread, so each step waits for its turn behind those already here.
    let handshake = shell.lane().pace(tls.accept(stream));
    let shaken = time::timeout_at(visitor.deadline, Box::pin(handshake)).await;
    match shaken {
        Ok(Ok(Ok(stream))) => converse(shell, stream, visitor).await,
        Ok(Ok(Err(stream))) => Box::pin(request::explain_tls(shell, stream, visitor.remote)).await,
        Ok(Err(error)) => shell.log().no_tls(visitor.remote, &error),
        Err(_) => shell.log().no_tls(visitor.remote, &io::ErrorKind::TimedOut.into()),
    }
}

/// Who is behind a trusted proxy.
enum Met {
    /// Somebody who may make a request.
    Anybody,
    /// A client for whom there is no place.
    Over(Refusal),
    /// The proxy didn't say.
    Nobody(io::Error),
}

/// Reads the header of the PROXY protocol, if that is switched on and the connection is a trusted proxy's.
async fn meet(shell: &Shell, stream: &mut TcpStream, visitor: &mut Visitor) -> Met {
    let config = shell.config();
    let is_proxy = proxies::is_trusted(&config.trusted_proxies, visitor.remote.ip());
    if !config.proxy_protocol || visitor.door != Door::Public || !is_proxy {
        return Met::Anybody;
    }
    let client = match time::timeout_at(visitor.deadline, proxy_header::read(stream)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return Met::Nobody(error),
        Err(_) => return Met::Nobody(io::ErrorKind::TimedOut.into()),
    };
    let Some(client) = client else { return Met::Anybody };
    visitor.remote = client;
    // Another proxy behind this one names its client in the request.
    if proxies::is_trusted(&config.trusted_proxies, client.ip()) {
        return Met::Anybody;
    }
    match visitor.place.of(std::time::Instant::now(), client.ip(), &config.limits) {
        Ok(()) => Met::Anybody,
        Err(refusal) => Met::Over(refusal),
    }
}

/// Answers the request. What it needs is given back before the connection lives on: hence the box, and a second task
/// for the rest of its life.
async fn converse<S>(shell: &Rc<Shell>, stream: S, visitor: Visitor)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let upgraded = Box::pin(request::converse(shell, stream, visitor)).await;
    if let Some((stream, Visitor { remote, place, room, .. }, read_ahead)) = upgraded {
        task::spawn_local(Connection::open(shell.clone(), place, stream, remote, room, read_ahead));
    }
}

fn admit(shell: &Shell, door: Door, remote: SocketAddr) -> Result<Place, Refusal> {
    if door == Door::Operators {
        return shell.admission(door).operator();
    }
    let config = shell.config();
    let mut place = shell.admission(door).place(&config.limits)?;
    // Behind a proxy the request tells whose place it is.
    if !proxies::is_trusted(&config.trusted_proxies, remote.ip()) {
        place.of(std::time::Instant::now(), remote.ip(), &config.limits)?;
    }
    Ok(place)
}

/// Whether the failure says something about the connection that was to be taken, and nothing about the next.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
