//! An open WebSocket. Sending never waits: frames are queued, and written while the owner waits for input.

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

/// How long closing may take, the queued frames included.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// TCP, or TLS over TCP.
pub(crate) type Stream = Box<dyn AsyncStream>;

pub(crate) trait AsyncStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> AsyncStream for T {}

/// A WebSocket, and the frames that have to be written to it.
pub(crate) struct Socket {
    websocket: WebSocketStream<Stream>,
    queue: VecDeque<Message>,
}

impl Socket {
    pub(crate) fn new(websocket: WebSocketStream<Stream>) -> Self {
        Self { websocket, queue: VecDeque::new() }
    }

    pub(crate) fn send(&mut self, frame: ByteString) {
        // The check for UTF-8 can't fail, because a ByteString is UTF-8.
        if let Ok(text) = Utf8Bytes::try_from(frame.into_bytes()) {
            self.queue.push_back(Message::Text(text));
        }
    }

    pub(crate) fn ping(&mut self) {
        self.queue.push_back(Message::Ping(Bytes::new()));
    }

    /// Writes queued frames, and waits for the next input. Do not call it again after [`Input::Disconnected`]. Cancel safe.
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

    /// Writes queued frames, closes the WebSocket and waits until the server has closed it, too, all within
    /// [`CLOSE_TIMEOUT`].
    pub(crate) async fn close(mut self) {
        let closing = async {
            if std::future::poll_fn(|cx| self.poll_write(cx)).await.is_ok()
                && self.websocket.close(None).await.is_ok()
            {
                while let Some(Ok(_)) =
                    std::future::poll_fn(|cx| Pin::new(&mut self.websocket).poll_next(cx)).await
                {
                }
            }
        };
        if timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::debug!("the server did not close the connection in time");
        }
    }
}
