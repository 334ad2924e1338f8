//! The one request of a connection: reads its head, has it routed (`route.rs`), and writes the response.
//!
//! No HTTP library is used, because the buffers that one keeps for the next request would be most of the memory of an
//! idle WebSocket.

use super::{
    out::Out,
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
        budget::RequestAccount,
        door::Door,
        head::{self, HeadError},
        socket::Socket,
    },
};
use bytes::Buf;
use std::{net::SocketAddr, rc::Rc, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, task, time};
use tungstenite::http::Method;

/// The time limit for reading a rejection.
const REJECTING: Duration = Duration::from_secs(10);
/// The bytes of the list of rooms that the system buffers. With more, it could take minutes until it reports that a slow
/// reader has read something.
const SEND_BUFFER: usize = 64 << 10;

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
            let mut out = Out { stream: &mut stream, stall: REJECTING };
            let written = async {
                out.write(response.head().chain(response.body.bytes())).await?;
                out.hang_up().await
            };
            let _ = time::timeout(REJECTING, written).await;
            drop(rejection);
        });
    }
}

/// Reads the request of a connection and answers it. If it opens a WebSocket, returns the socket, its visitor, and the
/// bytes that arrived after the head of the request.
pub(crate) async fn answer<S: Socket>(
    site: &Site,
    mut stream: S,
    mut visitor: Visitor,
) -> Option<(S, Visitor, Vec<u8>)> {
    let account = site.driver.registry().request_account();
    let mut head = Vec::with_capacity(1 << 10);
    let received = tokio::select! {
        biased;
        () = account.evicted() => None,
        received = receive(site, &mut stream, &mut visitor, &mut head, &account) => Some(received?),
    };
    let (reply, with_body, account) = if let Some((reply, with_body)) = received {
        (reply, with_body, account)
    } else {
        let text = "The server has no memory left for this request. Try again later.";
        let refusal = Response::refusal(503, text).retry_later();
        (Reply::Response(refusal), true, site.driver.registry().request_account())
    };
    match reply {
        Reply::Upgrade(response) => {
            site.context.metrics().answered(101);
            stream.write_all(&response).await.ok()?;
            stream.flush().await.ok()?;
            Some((stream, visitor, head))
        }
        Reply::Response(response) => {
            drop(head);
            if let Body::Rooms = response.body {
                // An operator may take a while to read the list, and must not lose the rest of it to newer connections.
                visitor.handshake = None;
                stream.limit_send_buffer(SEND_BUFFER);
            }
            respond(site, stream, visitor.remote, &response, with_body, &account).await;
            None
        }
    }
}

/// Reads the request and has it routed. `head` keeps the bytes after it. `None`: the peer is gone, or sent nothing.
async fn receive<S: Socket>(
    site: &Site,
    stream: &mut S,
    visitor: &mut Visitor,
    head: &mut Vec<u8>,
    account: &RequestAccount,
) -> Option<(Reply, bool)> {
    let count = |bytes| {
        account.set(bytes);
        site.driver.keep_within_budget();
    };
    let refusal = match time::timeout_at(visitor.deadline, head::read(stream, head, count)).await {
        // Browsers open sockets in advance, and may never use them.
        Err(_) if head.is_empty() => return None,
        Err(_) => Response::refusal(408, "The request took too long to arrive."),
        Ok(Err(HeadError::Gone)) => return None,
        Ok(Err(HeadError::TooLarge)) => Response::refusal(431, "The headers of the request are too large."),
        Ok(Err(HeadError::Malformed(error))) => {
            Response::refusal(400, format!("This is not an HTTP request: {error}."))
        }
        Ok(Ok((request, length))) => {
            // The parsed request holds a copy of the head.
            count(head.capacity() + length);
            site.lane.turn().await;
            let reply = route::reply(site, visitor, &request);
            if let Reply::Response(response) = &reply {
                log::answered(visitor.remote, response.status, request.uri().path());
            }
            *head = head.split_off(length);
            return Some((reply, request.method() != Method::HEAD));
        }
    };
    Some((Reply::Response(refusal), true))
}

/// Answers a client that speaks plain HTTP to a port of TLS.
pub(crate) async fn explain_tls(site: &Site, stream: TcpStream, remote: SocketAddr) {
    let response = Response::refusal(400, "This port speaks TLS: use https:// or wss://.");
    let account = site.driver.registry().request_account();
    respond(site, stream, remote, &response, true, &account).await;
}

async fn respond<S: Socket>(
    site: &Site,
    mut stream: S,
    remote: SocketAddr,
    response: &Response,
    with_body: bool,
    account: &RequestAccount,
) {
    site.context.metrics().answered(response.status);
    if response.status >= 400 {
        site.context.log().turned_away(remote, response.status, &response.text());
    }
    let mut out = Out { stream: &mut stream, stall: site.context.config().limits.stall_timeout };
    let write = async {
        let head = response.head();
        account.set(head.len() + response.body.owned());
        site.driver.keep_within_budget();
        match &response.body {
            Body::Bytes(body) if with_body => out.write(head.chain(&body[..])).await?,
            _ => out.write(head).await?,
        }
        if let (true, Body::Rooms) = (with_body, &response.body) {
            rooms::write(&site.driver, &mut out, account).await?;
        }
        out.hang_up().await
    };
    // An error means that the peer is gone.
    tokio::select! {
        () = account.evicted() => {}
        _ = write => {}
    }
}
