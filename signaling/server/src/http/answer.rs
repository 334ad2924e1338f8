//! What is said to a request over HTTP.

use super::viewer;
use crate::net::admission::Refusal;
use std::borrow::Cow;

const NO_STORE: &str = "Cache-Control: no-store\r\n";

/// What is said to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    content_type: &'static str,
    /// Further headers, each with its line end.
    headers: Cow<'static, str>,
    pub(crate) body: Body,
}

/// What follows the head.
#[derive(Debug)]
pub(crate) enum Body {
    Bytes(Cow<'static, [u8]>),
    /// Who is in which room, written bit by bit until the end of the connection.
    Rooms,
}

impl Answer {
    /// What was asked for, as it is now.
    pub(crate) fn current(content_type: &'static str, body: Body) -> Self {
        Self { status: 200, content_type, headers: NO_STORE.into(), body }
    }

    /// A file that stays as it is until the server is another one.
    pub(crate) fn file(content_type: &'static str, content: &'static [u8]) -> Self {
        let body = Body::Bytes(content.into());
        Self { status: 200, content_type, headers: "Cache-Control: no-cache\r\n".into(), body }
    }

    /// Words of why not.
    pub(crate) fn refusal(status: u16, words: impl Into<String>) -> Self {
        let words: String = words.into() + "\n";
        let body = Body::Bytes(words.into_bytes().into());
        Self { status, content_type: "text/plain; charset=utf-8", headers: NO_STORE.into(), body }
    }

    /// There is no place for another connection.
    pub(crate) fn over(refusal: Refusal) -> Self {
        Self::refusal(refusal.status(), refusal.to_string()).later()
    }

    /// Sends a browser to the page below `base`, a checked path. `query` has passed the parser of URIs: no white space.
    pub(crate) fn add_slash(base: &str, query: Option<&str>) -> Self {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let words = format!("The page is at {base}/.");
        Self::refusal(308, words)
            .with_headers(format!("Cache-Control: no-store\r\nLocation: {base}/{query}\r\n"))
    }

    /// Asks to come back a little later.
    pub(crate) fn later(self) -> Self {
        self.with_headers("Cache-Control: no-store\r\nRetry-After: 5\r\n")
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn with_headers(self, headers: impl Into<Cow<'static, str>>) -> Self {
        Self { headers: headers.into(), ..self }
    }

    /// The words, for the log.
    pub(crate) fn words(&self) -> Cow<'_, str> {
        match &self.body {
            Body::Bytes(bytes) => String::from_utf8_lossy(bytes.trim_ascii_end()),
            Body::Rooms => Cow::default(),
        }
    }

    /// The head, and with it what of the body is known already.
    pub(crate) fn to_bytes(&self, with_body: bool) -> Vec<u8> {
        let reason = tungstenite::http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or_default();
        let length = match &self.body {
            Body::Bytes(bytes) => format!("Content-Length: {}\r\n", bytes.len()),
            Body::Rooms => String::new(),
        };
        let head = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\n{length}{}\
             X-Content-Type-Options: nosniff\r\nContent-Security-Policy: {}\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.headers,
            viewer::CONTENT_SECURITY_POLICY,
        );
        let mut bytes = head.into_bytes();
        if let (true, Body::Bytes(body)) = (with_body, &self.body) {
            bytes.extend_from_slice(body);
        }
        bytes
    }
}
