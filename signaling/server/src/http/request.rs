//! The one request of a connection: it begins a WebSocket or is a plain GET.
//!
//! Nothing of HTTP outlives the request, because what an HTTP library keeps for the next request would be most of
//! what an idle connection costs.

use super::{
    access, admin,
    answer::{Answer, Body},
    operate, pages,
};
use crate::{
    Config,
    driver::{log, shell::Shell},
    limits::TOLD,
    net::{
        admission::{Place, Refusal},
        door::Door,
        head::{self, HeadError},
        proxies,
    },
};
use room_protocol::RoomId;
use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task, time,
};
use tungstenite::{
    error::{Error, ProtocolError},
    handshake::server::{Request, create_response, write_response},
    http::{HeaderMap, Method, Version},
};

/// Headers of an answer that pages of other origins may read.
const FOR_ANY_PAGE: &str =
    "Cache-Control: no-store\r\nUpgrade: websocket\r\nAccess-Control-Allow-Origin: *\r\n";
/// How long a peer may take to read an answer.
const ANSWERING: Duration = Duration::from_secs(10);
/// How long input is thrown away after an answer, so that a reset doesn't eat it.
const LINGER: Duration = Duration::from_secs(1);

/// Who makes a request.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// Where it is; behind a trusted proxy, what that says once the request is read.
    pub(crate) remote: SocketAddr,
    /// Where it came in: for whom that is, and its address.
    pub(crate) door: Door,
    pub(crate) local: Option<SocketAddr>,
    /// Its place among the connections.
    pub(crate) place: Place,
    /// The room that the URL of its request names.
    pub(crate) room: Option<RoomId>,
    /// When its request must be here.
    pub(crate) deadline: time::Instant,
}

/// Tells one who is not taken why, without reading its request. Where many are told already, it is just dropped; and
/// with TLS too, as a handshake is the dearest part, and plain text would be taken for another kind of server.
pub(crate) fn turn_away(
    shell: &Rc<Shell>,
    mut stream: TcpStream,
    remote: SocketAddr,
    door: Door,
    refusal: Refusal,
) {
    let answer = Answer::over(refusal);
    shell.metrics().answered(answer.status);
    shell.log().turned_away(remote, answer.status, &refusal.to_string());
    limit_met(shell, remote, refusal);
    let is_plain = door == Door::Operators || shell.config().tls.is_none();
    if Rc::strong_count(shell.told()) <= TOLD && is_plain {
        let told = shell.told().clone();
        task::spawn_local(async move {
            let told_so = async {
                stream.write_all(&answer.to_bytes(true)).await?;
                hang_up(&mut stream).await
            };
            let _ = time::timeout(ANSWERING, told_so).await;
            drop(told);
        });
    }
}

fn limit_met(shell: &Shell, remote: SocketAddr, refusal: Refusal) {
    shell.metrics().turned_away(refusal.name());
    if refusal != Refusal::Full {
        shell.log().limit_of_address(remote.ip());
    }
}

/// Reads the one request of a connection and answers it. Where a WebSocket begins, returns the socket, whose it is,
/// and what was read of it already.
pub(crate) async fn converse<S>(
    shell: &Shell,
    mut stream: S,
    mut visitor: Visitor,
) -> Option<(S, Visitor, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::with_capacity(1 << 10);
    let (answer, with_body) = match time::timeout_at(visitor.deadline, head::read(&mut stream, &mut head))
        .await
    {
        // Browsers open sockets ahead of need.
        Err(_) if head.is_empty() => return None,
        Err(_) => (Answer::refusal(408, "The request took too long."), true),
        Ok(Err(HeadError::Gone)) => return None,
        Ok(Err(HeadError::TooLarge)) => (Answer::refusal(431, "The head of the request is too large."), true),
        Ok(Err(HeadError::Malformed(error))) => {
            (Answer::refusal(400, format!("Not a request: {error}.")), true)
        }
        Ok(Ok((request, length))) => {
            shell.lane().turn().await;
            let with_body = request.method() != Method::HEAD;
            match judge(shell, &mut visitor, &request) {
                Verdict::Upgrade(response) => {
                    shell.metrics().answered(101);
                    stream.write_all(&response).await.ok()?;
                    stream.flush().await.ok()?;
                    return Some((stream, visitor, head.split_off(length)));
                }
                Verdict::Answer(answer) => {
                    log::answered(visitor.remote, answer.status, request.uri().path());
                    (answer, with_body)
                }
            }
        }
    };
    drop(head);
    finish(shell, stream, visitor.remote, &answer, with_body).await;
    None
}

/// Answers one who speaks plain text where TLS is spoken.
pub(crate) async fn explain_tls(shell: &Shell, stream: TcpStream, remote: SocketAddr) {
    let answer = Answer::refusal(400, "This port speaks TLS: write https:// or wss://.");
    finish(shell, stream, remote, &answer, true).await;
}

/// Says the last words.
async fn finish<S>(shell: &Shell, mut stream: S, remote: SocketAddr, answer: &Answer, with_body: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    shell.metrics().answered(answer.status);
    if answer.status >= 400 {
        shell.log().turned_away(remote, answer.status, &answer.words());
    }
    let said = async {
        stream.write_all(&answer.to_bytes(with_body)).await?;
        if with_body && matches!(answer.body, Body::Rooms) {
            admin::write_rooms(shell, &mut stream).await?;
        }
        hang_up(&mut stream).await
    };
    // The peer may be gone, or not read: there is nobody to tell.
    let _ = time::timeout(ANSWERING, said).await;
}

enum Verdict {
    /// A WebSocket begins with these bytes.
    Upgrade(Vec<u8>),
    Answer(Answer),
}

fn judge(shell: &Shell, visitor: &mut Visitor, request: &Request) -> Verdict {
    let config = shell.config();
    let admitted = admit(&config, visitor, request).map_err(|refusal| {
        limit_met(shell, visitor.remote, refusal);
        Answer::over(refusal)
    });
    match admitted.and_then(|()| route(shell, visitor, request)) {
        Ok(verdict) => verdict,
        Err(refusal) => Verdict::Answer(refusal),
    }
}

/// Looks behind trusted proxies: who comes by them has its place only now.
fn admit(config: &Config, visitor: &mut Visitor, request: &Request) -> Result<(), Refusal> {
    let Visitor { remote, door, place, .. } = visitor;
    if !proxies::is_trusted(&config.trusted_proxies, remote.ip()) {
        return Ok(());
    }
    remote.set_ip(proxies::client(&config.trusted_proxies, remote.ip(), request.headers()));
    if *door == Door::Operators {
        return Ok(());
    }
    place.of(Instant::now(), remote.ip(), &config.limits)
}

fn route(shell: &Shell, visitor: &mut Visitor, request: &Request) -> Result<Verdict, Answer> {
    let config = &*shell.config();
    let path = below(&config.base_path, request.uri().path());
    let is_operation = operate::concerns(request.method(), path);
    if !is_operation && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Answer::refusal(405, "Only GET.").with_headers("Allow: GET, HEAD\r\n"));
    }
    let host = single(request.headers(), "host")?;
    match host {
        Some(host) => {
            access::check_host(config, visitor.local, host).map_err(|words| Answer::refusal(403, words))?;
        }
        None if request.version() == Version::HTTP_11 => {
            return Err(Answer::refusal(400, "The request has no Host header."));
        }
        None => {}
    }
    if is_operation {
        pages::check_token(shell, single(request.headers(), "authorization")?)?;
        return operate::perform(shell, request.method(), path).map(Verdict::Answer);
    }
    if is_upgrade(request.headers()) {
        if !matches!(path, "" | "/" | "/ws") || visitor.door != Door::Public {
            return Err(Answer::refusal(404, "WebSockets are taken on / and /ws."));
        }
        if let Some(origin) = single(request.headers(), "origin")? {
            access::check_origin(config, host, origin).map_err(|words| Answer::refusal(403, words))?;
        }
        if shell.is_draining() {
            return Err(Answer::refusal(503, "This server is going away.").later());
        }
        visitor.place.may_stay(&config.limits).map_err(|refusal| {
            limit_met(shell, visitor.remote, refusal);
            Answer::over(refusal)
        })?;
        visitor.room = named_room(request.uri().query().unwrap_or_default())?;
        return upgrade(request).map(Verdict::Upgrade);
    }
    if path == "/ws" && visitor.door == Door::Public {
        return Err(explain_refusal(config, host, request.uri().query()));
    }
    if path.is_empty() {
        return Ok(Verdict::Answer(Answer::add_slash(&config.base_path, request.uri().query())));
    }
    let authorization = single(request.headers(), "authorization")?;
    pages::page(shell, visitor.door, path, authorization).map(Verdict::Answer)
}

/// The room that a query names: the first `room`, unless it is empty.
fn named_room(query: &str) -> Result<Option<RoomId>, Answer> {
    let named = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "room").map(|(_, room)| room);
    let room = named.filter(|room| !room.is_empty()).map(RoomId::new).transpose();
    room.map_err(|error| Answer::refusal(400, format!("The URL names a room that can't be one: {error}.")))
}

/// The path without the one that a proxy in front of the server did not strip. Empty: that path itself, without the slash
/// that relative links on a page need. A proxy that strips, and a program on this machine, name no such path.
fn below<'a>(base: &str, path: &'a str) -> &'a str {
    match path.strip_prefix(base) {
        Some(rest) if !base.is_empty() && (rest.is_empty() || rest.starts_with('/')) => rest,
        _ => path,
    }
}

/// Answers a page whose WebSocket was refused, and that a browser did not tell why: `?origin=` names the page's origin.
/// Any page may read this. It learns nothing that the refusal of its WebSocket did not show.
fn explain_refusal(config: &Config, host: Option<&str>, query: Option<&str>) -> Answer {
    let origin = query.unwrap_or_default().split('&').find_map(|part| part.strip_prefix("origin="));
    if let Some(Err(words)) = origin.map(|origin| access::check_origin(config, host, origin)) {
        return Answer::refusal(403, words).with_headers(FOR_ANY_PAGE);
    }
    Answer::refusal(426, "This is for WebSockets only; the page is at /.").with_headers(FOR_ANY_PAGE)
}

/// The value of a header that may be there once at most.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Answer> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(Answer::refusal(400, format!("The request has more than one {name} header.")));
    }
    first
        .map(|value| {
            value.to_str().map_err(|_| Answer::refusal(400, format!("The {name} header is not text.")))
        })
        .transpose()
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get("upgrade").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The answer that begins a WebSocket. No extension is ever taken: compression costs 40 KB a connection.
fn upgrade(request: &Request) -> Result<Vec<u8>, Answer> {
    let response = create_response(request).map_err(|error| match error {
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => {
            Answer::refusal(426, "Only version 13 of the WebSocket protocol (RFC 6455).")
                .with_headers("Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n")
        }
        error => Answer::refusal(400, format!("Not a WebSocket's beginning: {error}.")),
    })?;
    let mut bytes = Vec::new();
    write_response(&mut bytes, &response).map_err(|error| Answer::refusal(500, error.to_string()))?;
    Ok(bytes)
}

/// Shuts the write side and waits a little for the peer to be done.
async fn hang_up<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.shutdown().await?;
    // Whether it ends or the time is up: then the connection is over.
    let _ = time::timeout(LINGER, tokio::io::copy(stream, &mut tokio::io::sink())).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_name_a_room() {
        for (query, expected) in [
            ("", None),
            ("room=", None),
            ("other=x&x", None),
            ("room=lab", Some("lab")),
            ("a=b&room=lab+1&room=lab+2", Some("lab 1")),
            ("room=%E5%AE%A2%E5%8E%85", Some("客厅")),
            ("room=cafe%CC%81", Some("caf\u{e9}")),
        ] {
            let room = named_room(query).unwrap();
            assert_eq!(room.as_ref().map(RoomId::as_str), expected, "{query}");
        }
        for query in ["room=%20x", "room=%00", "room=%FF%E2%80%8B", &format!("room={}", "x".repeat(129))] {
            assert_eq!(named_room(query).unwrap_err().status, 400, "{query}");
        }
    }
}
