//! A connected socket, with TLS or without.

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

/// A connected socket.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;

    /// Limits the bytes that the system buffers for the peer.
    fn limit_send_buffer(&self, bytes: usize) {
        // A system that refuses this buffers more.
        let _ = SockRef::from(self.tcp()).set_send_buffer_size(bytes);
    }
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for Box<TlsStream<TcpStream>> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}
