//! A response to a request, and its bytes.

use super::viewer;
use crate::net::admission::TurnedAway;
use bytes::Bytes;
use std::borrow::Cow;

const NO_STORE: &str = "Cache-Control: no-store\r\n";

/// A response to a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    content_type: &'static str,
    /// Further headers, each with its line end.
    headers: Cow<'static, str>,
    pub(crate) body: Body,
}

/// The part of a response after its head.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Cow<'static, [u8]>),
    /// The members of all rooms, written piece by piece until the end of the connection.
    Rooms,
}

impl Body {
    /// The bytes that are known already.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Rooms => &[],
        }
    }

    /// The memory that the body occupies. Files are a part of the program.
    pub(crate) fn owned(&self) -> usize {
        match self {
            Self::Bytes(Cow::Owned(bytes)) => bytes.len(),
            Self::Bytes(Cow::Borrowed(_)) | Self::Rooms => 0,
        }
    }
}

impl Response {
    /// Content that is current now and must not be cached.
    pub(crate) fn current(content_type: &'static str, body: Body) -> Self {
        Self { status: 200, content_type, headers: NO_STORE.into(), body }
    }

    /// A file, which does not change while the server runs.
    pub(crate) fn file(content_type: &'static str, content: &'static [u8]) -> Self {
        let body = Body::Bytes(content.into());
        Self { status: 200, content_type, headers: "Cache-Control: no-cache\r\n".into(), body }
    }

    /// The reason for which a request is refused.
    pub(crate) fn refusal(status: u16, text: impl Into<String>) -> Self {
        let text: String = text.into() + "\n";
        let body = Body::Bytes(text.into_bytes().into());
        Self { status, content_type: "text/plain; charset=utf-8", headers: NO_STORE.into(), body }
    }

    /// The limit for which a connection is turned away.
    pub(crate) fn turned_away(reason: TurnedAway) -> Self {
        Self::refusal(reason.status(), reason.to_string()).retry_later()
    }

    /// Redirects a browser to the page below `base`, a valid path. `query` comes from a parsed URI, so it has no white
    /// space.
    pub(crate) fn add_slash(base: &str, query: Option<&str>) -> Self {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let text = format!("The page is at {base}/.");
        Self::refusal(308, text)
            .with_headers(format!("Cache-Control: no-store\r\nLocation: {base}/{query}\r\n"))
    }

    /// Asks the client to try again a little later.
    pub(crate) fn retry_later(self) -> Self {
        self.with_headers("Cache-Control: no-store\r\nRetry-After: 5\r\n")
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn with_headers(self, headers: impl Into<Cow<'static, str>>) -> Self {
        Self { headers: headers.into(), ..self }
    }

    /// The body as text, for the log.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match &self.body {
            Body::Bytes(bytes) => String::from_utf8_lossy(bytes.trim_ascii_end()),
            Body::Rooms => Cow::default(),
        }
    }

    /// The status line and the headers.
    pub(crate) fn head(&self) -> Bytes {
        let reason = tungstenite::http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default();
        let length = match &self.body {
            Body::Bytes(bytes) => format!("Content-Length: {}\r\n", bytes.len()),
            Body::Rooms => String::new(),
        };
        Bytes::from(format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\n{length}{}\
             X-Content-Type-Options: nosniff\r\nContent-Security-Policy: {}\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.headers,
            viewer::CONTENT_SECURITY_POLICY,
        ))
    }
}
