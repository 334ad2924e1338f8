//! The one request of a connection: reads its head, has it routed (`route.rs`), and writes the response.
//!
//! No HTTP library is used, because the buffers that one keeps for the next request would be most of the memory of an
//! idle WebSocket.

use super::{
    response::{Body, Response},
    rooms,
    route::{self, Reply},
    site::Site,
    visitor::Visitor,
};
use crate::{
    limits::REJECTIONS,
    log,
    net::{
        admission::TurnedAway,
        door::Door,
        head::{self, HeadError},
    },
};
use std::{io, net::SocketAddr, rc::Rc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task, time,
};
use tungstenite::http::Method;

/// How long a peer may take to read a response.
const RESPONDING: Duration = Duration::from_secs(10);
/// How long input is discarded after a response, because a reset could destroy the response.
const LINGER: Duration = Duration::from_secs(1);

/// Rejects a connection without reading its request. At most [`REJECTIONS`] are written at a time; beyond that the
/// connection is dropped. So it is with TLS: the handshake is the expensive part, and plain text would look like a
/// different kind of server.
pub(crate) fn turn_away(
    site: &Site,
    mut stream: TcpStream,
    remote: SocketAddr,
    door: Door,
    reason: TurnedAway,
) {
    let response = Response::turned_away(reason);
    site.context.metrics().answered(response.status);
    site.context.log().turned_away(remote, response.status, &reason.to_string());
    site.count_turned_away(remote, reason);
    let is_plain = door == Door::Operators || site.context.config().tls.is_none();
    if Rc::strong_count(&site.rejections) <= REJECTIONS && is_plain {
        let rejection = site.rejections.clone();
        task::spawn_local(async move {
            let written = async {
                stream.write_all(&response.to_bytes(true)).await?;
                hang_up(&mut stream).await
            };
            let _ = time::timeout(RESPONDING, written).await;
            drop(rejection);
        });
    }
}

/// Reads the request of a connection and answers it. If it opens a WebSocket, returns the socket, its visitor, and the
/// bytes that arrived after the head of the request.
pub(crate) async fn answer<S>(
    site: &Site,
    mut stream: S,
    mut visitor: Visitor,
) -> Option<(S, Visitor, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::with_capacity(1 << 10);
    let read = time::timeout_at(visitor.deadline, head::read(&mut stream, &mut head)).await;
    let (response, with_body) = match read {
        // Browsers open sockets in advance, and may never use them.
        Err(_) if head.is_empty() => return None,
        Err(_) => (Response::refusal(408, "The request took too long to arrive."), true),
        Ok(Err(HeadError::Gone)) => return None,
        Ok(Err(HeadError::TooLarge)) => {
            (Response::refusal(431, "The headers of the request are too large."), true)
        }
        Ok(Err(HeadError::Malformed(error))) => {
            (Response::refusal(400, format!("This is not an HTTP request: {error}.")), true)
        }
        Ok(Ok((request, length))) => {
            site.lane.turn().await;
            match route::reply(site, &mut visitor, &request) {
                Reply::Upgrade(response) => {
                    site.context.metrics().answered(101);
                    stream.write_all(&response).await.ok()?;
                    stream.flush().await.ok()?;
                    return Some((stream, visitor, head.split_off(length)));
                }
                Reply::Response(response) => {
                    log::answered(visitor.remote, response.status, request.uri().path());
                    (response, request.method() != Method::HEAD)
                }
            }
        }
    };
    drop(head);
    respond(site, stream, visitor.remote, &response, with_body).await;
    None
}

/// Answers a client that speaks plain HTTP to a port of TLS.
pub(crate) async fn explain_tls(site: &Site, stream: TcpStream, remote: SocketAddr) {
    let response = Response::refusal(400, "This port speaks TLS: use https:// or wss://.");
    respond(site, stream, remote, &response, true).await;
}

async fn respond<S>(site: &Site, mut stream: S, remote: SocketAddr, response: &Response, with_body: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    site.context.metrics().answered(response.status);
    if response.status >= 400 {
        site.context.log().turned_away(remote, response.status, &response.text());
    }
    let written = async {
        stream.write_all(&response.to_bytes(with_body)).await?;
        if let (true, Body::Rooms) = (with_body, &response.body) {
            rooms::write(&site.driver, &mut stream).await?;
        }
        hang_up(&mut stream).await
    };
    // An error means that the peer is gone.
    let _ = time::timeout(RESPONDING, written).await;
}

/// Shuts the write side and waits a little until the peer closes its own.
async fn hang_up<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.shutdown().await?;
    let _ = time::timeout(LINGER, tokio::io::copy(stream, &mut tokio::io::sink())).await;
    Ok(())
}
