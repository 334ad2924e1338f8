//! Writes responses to peers that may read slowly.

use crate::net::socket::Socket;
use bytes::Buf;
use std::{io, time::Duration};
use tokio::{io::AsyncWriteExt, time};

/// The time for which input is discarded after a response, because a reset could destroy the response.
const LINGER: Duration = Duration::from_secs(1);

/// The writing side of a connection. A write fails only if the peer reads nothing for `stall`, however long all of it takes.
pub(super) struct Out<'a, S> {
    pub(super) stream: &'a mut S,
    pub(super) stall: Duration,
}

impl<S: Socket> Out<'_, S> {
    /// Writes all bytes.
    pub(super) async fn write(&mut self, mut bytes: impl Buf) -> io::Result<()> {
        while bytes.has_remaining() {
            let written = time::timeout(self.stall, self.stream.write_buf(&mut bytes)).await?;
            if written? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Shuts the write side and waits a little until the peer closes its own.
    pub(super) async fn hang_up(&mut self) -> io::Result<()> {
        time::timeout(self.stall, self.stream.shutdown()).await??;
        let _ = time::timeout(LINGER, tokio::io::copy(self.stream, &mut tokio::io::sink())).await;
        Ok(())
    }
}
