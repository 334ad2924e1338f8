//! From an address to an open WebSocket: name, TCP, TLS, upgrade. Whoever waits for it bounds the time.

use crate::{
    options::Target,
    socket::{Socket, Stream},
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::rustls::{CertificateError, Error as TlsError};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Error as WsError, client::IntoClientRequest, http::StatusCode, protocol::WebSocketConfig},
};

/// How long one address may take before the next one is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// No message of a server's is longer: it relays 64 KiB, and lists 1,000 members of some 1.3 KiB at most.
const MAX_MESSAGE: usize = 2 << 20;

/// Why a WebSocket could not be opened.
pub(crate) enum ConnectError {
    /// Later it may work.
    Later(String),
    /// It will not work before somebody changes something, in words that say what.
    Misconfigured(String),
}

pub(crate) async fn connect(target: Target) -> Result<Socket, ConnectError> {
    let Target { uri, host, port, tls } = target;
    let tcp = connect_tcp(&host, port).await?;
    let stream: Stream = match tls {
        None => Box::new(tcp),
        Some((connector, name)) => {
            Box::new(connector.connect(name, tcp).await.map_err(|error| tls_error(&host, port, error))?)
        }
    };
    let request = uri.into_client_request().map_err(ws_error)?;
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (websocket, _) = client_async_with_config(request, stream, Some(config)).await.map_err(ws_error)?;
    Ok(Socket::new(websocket))
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(|error| ConnectError::Later(format!("the name {host:?} can't be resolved: {error}")))?
        .collect();
    let stream = first_to_answer(addresses)
        .await
        .map_err(|error| ConnectError::Later(format!("{host:?} port {port} can't be reached: {error}")))?;
    // Candidates are small and wait for nothing.
    stream.set_nodelay(true).map_err(|error| ConnectError::Later(error.to_string()))?;
    Ok(stream)
}

/// Tries the addresses one after the other, each [`STAGGER`] after the one before or once that failed; the first to
/// answer wins. A network that swallows IPv6 so costs a quarter of a second, not all the time there is.
async fn first_to_answer(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut untried = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last_error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = untried.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        let more = untried.len() > 0;
        tokio::select! {
            attempt = attempts.join_next() => match attempt {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last_error = error,
                Some(Err(error)) => last_error = error.into(),
                None => return Err(last_error),
            },
            () = sleep(STAGGER), if more => {}
        }
    }
}

fn tls_error(host: &str, port: u16, error: io::Error) -> ConnectError {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
        return ConnectError::Later(format!("TLS with {host:?} port {port} failed: {error}"));
    };
    match tls {
        TlsError::InvalidCertificate(reason) => ConnectError::Misconfigured(format!(
            "the certificate of {host:?} is not to be trusted ({reason}): {}",
            certificate_advice(reason)
        )),
        TlsError::InvalidMessage(_) => ConnectError::Misconfigured(format!(
            "{host:?} port {port} doesn't speak TLS: write ws:// if that is what you want, or the port of its TLS"
        )),
        _ => ConnectError::Later(format!("TLS with {host:?} port {port} failed: {tls}")),
    }
}

fn certificate_advice(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name that it is made for, or have one made for this name"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew it, and look at the clocks of both machines",
        // Not a variant of its own there: what `openssl req -x509` makes unless told otherwise.
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "it is an authority's own; make one for the server, with basicConstraints=CA:FALSE"
        }
        _ => "name the PEM file of the authority that signed it as the file of trusted authorities",
    }
}

fn ws_error(error: WsError) -> ConnectError {
    match error {
        WsError::Http(response) if is_permanent(response.status()) => ConnectError::Misconfigured(format!(
            "no signaling server there, or it does not serve this host name or path (HTTP {}): check the address",
            response.status()
        )),
        WsError::Http(response) => {
            ConnectError::Later(format!("the server answers HTTP {}", response.status()))
        }
        error => ConnectError::Later(format!("the WebSocket can't be opened: {error}")),
    }
}

/// Whether asking again would get the same answer. Proxies say 5xx when the server behind them is away.
fn is_permanent(status: StatusCode) -> bool {
    !status.is_server_error()
        && !matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}
