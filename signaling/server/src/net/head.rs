//! Reads and parses the head of an HTTP/1.1 request.

use tokio::io::{AsyncRead, AsyncReadExt};
use tungstenite::{
    handshake::server::Request,
    http::{HeaderName, HeaderValue, Version},
};

/// The longest head of a request, as nginx accepts by default. Single sign-on in front of the server creates cookies of
/// 10 KiB and more.
const MAX_HEAD: usize = 32 << 10;
/// The largest number of headers of a request.
const MAX_HEADERS: usize = 256;

/// The reason for which a head could not be read.
#[derive(Debug)]
pub(crate) enum HeadError {
    TooLarge,
    Malformed(httparse::Error),
    /// The peer has closed the connection.
    Gone,
}

/// Reads until the head of a request is complete. Returns it with its length; bytes after it stay in `buffer`. `grown` is
/// called with the capacity of the buffer whenever bytes have arrived.
pub(crate) async fn read<S>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    grown: impl Fn(usize),
) -> Result<(Request, usize), HeadError>
where
    S: AsyncRead + Unpin,
{
    loop {
        let seen = buffer.len();
        let mut limited = (&mut *stream).take((MAX_HEAD - seen) as u64);
        if limited.read_buf(buffer).await.map_err(|_| HeadError::Gone)? == 0 {
            return Err(if seen == MAX_HEAD { HeadError::TooLarge } else { HeadError::Gone });
        }
        grown(buffer.capacity());
        // A head ends with an empty line. Parsing it again for each byte that arrives would be expensive.
        let tail = &buffer[seen.saturating_sub(3)..];
        if !tail.windows(2).any(|pair| pair == b"\n\n") && !tail.windows(3).any(|three| three == b"\n\r\n") {
            continue;
        }
        if let Some(parsed) = parse(buffer)? {
            return Ok(parsed);
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(error) => return Err(HeadError::Malformed(error)),
    };
    let mut request = Request::new(());
    let bad = || HeadError::Malformed(httparse::Error::Token);
    *request.method_mut() = parsed.method.unwrap_or_default().parse().map_err(|_| bad())?;
    *request.uri_mut() = parsed.path.unwrap_or_default().parse().map_err(|_| bad())?;
    *request.version_mut() = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    for header in parsed.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| bad())?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| bad())?;
        request.headers_mut().append(name, value);
    }
    Ok(Some((request, length)))
}
