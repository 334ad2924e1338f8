//! Opens a WebSocket: name resolution, TCP, TLS, upgrade. The caller limits the time. The errors name the host, the cause
//! and the fix.

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

/// How long one address may take before the next one is tried in parallel (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// The longest message of a server, in bytes. A server relays up to 64 KiB, and lists up to 1,000 members of 1.3 KiB.
const MAX_MESSAGE: usize = 2 << 20;

/// How long sent data may stay unacknowledged before the connection counts as broken.
#[cfg(target_os = "linux")]
const UNDELIVERED: Duration = Duration::from_secs(5);

/// Why a WebSocket could not be opened.
pub(crate) enum ConnectError {
    /// A later attempt may succeed.
    Later(String),
    /// No attempt can succeed before the configuration changes; the text says what to change.
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
    let request = uri.into_client_request().map_err(|error| ws_error(&host, port, error))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(16 << 10)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (websocket, _) = client_async_with_config(request, stream, Some(config))
        .await
        .map_err(|error| ws_error(&host, port, error))?;
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
    // Messages are small, and must not wait for the acknowledgment of earlier ones (Nagle's algorithm).
    stream.set_nodelay(true).map_err(|error| ConnectError::Later(error.to_string()))?;
    // After a change of this machine's address, the system would retransmit for a quarter of an hour.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&stream)
        .set_tcp_user_timeout(Some(UNDELIVERED))
        .map_err(|error| ConnectError::Later(error.to_string()))?;
    Ok(stream)
}

/// Tries the addresses in order, each [`STAGGER`] after the previous one or as soon as that one has failed. The first that
/// answers is used, so a network that drops IPv6 costs a quarter of a second instead of the whole time limit.
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
        // Without a battery, the clock of a machine is wrong until it is set over the network.
        TlsError::InvalidCertificate(
            reason @ (CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }),
        ) => ConnectError::Later(format!(
            "the certificate of {host:?} port {port} is not valid yet ({reason}): check the clocks of both machines"
        )),
        TlsError::InvalidCertificate(reason) => ConnectError::Misconfigured(format!(
            "the certificate of {host:?} port {port} is not trusted ({reason}): {}",
            certificate_advice(reason)
        )),
        TlsError::InvalidMessage(_) => ConnectError::Misconfigured(format!(
            "{host:?} port {port} does not speak TLS: write ws:// for a server without TLS, or the port on which it speaks TLS"
        )),
        _ => ConnectError::Later(format!("TLS with {host:?} port {port} failed: {tls}")),
    }
}

fn certificate_advice(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect to a name for which it was issued, or install one for this name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "renew it, and check the clocks of both machines"
        }
        // rustls has no variant for the certificates that `openssl req -x509` makes by default.
        CertificateError::Other(error) if error.to_string().contains("CaUsedAsEndEntity") => {
            "it is the certificate of an authority: make one for the server, with basicConstraints=CA:FALSE"
        }
        _ => "set the PEM file of the authority that signed it as the file of trusted authorities",
    }
}

fn ws_error(host: &str, port: u16, error: WsError) -> ConnectError {
    match error {
        WsError::Http(response) => {
            let status = response.status();
            let server = format!("{host:?} port {port}");
            match status {
                StatusCode::NOT_FOUND => ConnectError::Later(format!(
                    "{server} answers HTTP {status}: check the path of the address, unless the server is being replaced"
                )),
                _ if is_temporary(status) => ConnectError::Later(format!("{server} answers HTTP {status}")),
                _ => ConnectError::Misconfigured(format!(
                    "{server} is no signaling server, or does not serve this host name or path (HTTP {status}): \
                     check the address"
                )),
            }
        }
        error => {
            ConnectError::Later(format!("the WebSocket to {host:?} port {port} can't be opened: {error}"))
        }
    }
}

/// Whether a later attempt may get another answer. Proxies answer 404 or 5xx while the server behind them is down.
fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::NOT_FOUND
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        )
}
