//! An open WebSocket that never makes its owner wait for writing.

use futures_util::{Sink, Stream as _};
use room_protocol::{ByteString, client::Input};
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Bytes, Error, Message, Utf8Bytes},
};

/// How long saying goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Plain TCP or TLS over it.
pub(crate) type Stream = Box<dyn AsyncStream>;

pub(crate) trait AsyncStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncStream for T {}

/// A WebSocket and what still has to be written to it.
pub(crate) struct Socket {
    websocket: WebSocketStream<Stream>,
    queue: VecDeque<Message>,
}

impl Socket {
    pub(crate) fn new(websocket: WebSocketStream<Stream>) -> Self {
        Self { websocket, queue: VecDeque::new() }
    }

    pub(crate) fn send(&mut self, frame: ByteString) {
        // Text to text: the check that it is UTF-8 can't fail.
        if let Ok(text) = Utf8Bytes::try_from(frame.into_bytes()) {
            self.queue.push_back(Message::Text(text));
        }
    }

    pub(crate) fn ping(&mut self) {
        self.queue.push_back(Message::Ping(Bytes::new()));
    }

    /// Writes what is queued as far as it goes, and gives what comes as an input. After [`Input::Disconnected`] there
    /// is nothing left to poll. Cancel safe.
    pub(crate) async fn next(&mut self) -> Input {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            tracing::debug!(%error, "the connection broke while writing");
            return Poll::Ready(Input::Disconnected(None));
        }
        Poll::Ready(match ready!(Pin::new(&mut self.websocket).poll_next(cx)) {
            Some(Ok(Message::Text(text))) => Input::Frame(ByteString::from(text.as_str())),
            Some(Ok(Message::Close(frame))) => Input::Disconnected(frame.map(|frame| frame.code.into())),
            Some(Ok(_)) => Input::Alive,
            Some(Err(error)) => {
                tracing::debug!(%error, "the connection broke");
                Input::Disconnected(None)
            }
            None => Input::Disconnected(None),
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut websocket = Pin::new(&mut self.websocket);
        while !self.queue.is_empty() {
            ready!(websocket.as_mut().poll_ready(cx))?;
            if let Some(message) = self.queue.pop_front() {
                websocket.as_mut().start_send(message)?;
            }
        }
        websocket.poll_flush(cx)
    }

    /// Writes what is queued, closes, and waits for the other end to have read it, all within [`FAREWELL`].
    pub(crate) async fn close(mut self) {
        let farewell = async {
            if std::future::poll_fn(|cx| self.poll_write(cx)).await.is_ok()
                && self.websocket.close(None).await.is_ok()
            {
                while let Some(Ok(_)) =
                    std::future::poll_fn(|cx| Pin::new(&mut self.websocket).poll_next(cx)).await
                {
                }
            }
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!("the server did not answer the goodbye");
        }
    }
}
