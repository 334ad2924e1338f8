//! The shell around [`room_protocol::Hub`]: sockets, HTTP, heartbeat, logs.
//!
//! One thread owns the Hub and every socket: a message is read, judged and written by the same thread, so there is
//! nothing to lock and nothing to race. [`serve`] is that thread's work; [`spawn_thread`] brings the thread along.
//!
//! Architecture invariant: one connection never makes another wait. What a peer does not read piles up in its own
//! bounded queue, and a full one closes that peer.

mod accept;
mod access;
pub mod config;
mod connection;
mod http;
mod io;
mod log;
mod queue;
mod shell;
mod thread;
mod viewer;

pub use config::Config;
pub use room_protocol as protocol;
pub use thread::{Running, spawn_thread};

use shell::Shell;
use socket2::{Domain, Socket, Type};
use std::{
    io::{Error, Result},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    rc::Rc,
};
use tokio::task::{self, LocalSet};
use tracing::{info, warn};

/// Listens on `address` with a backlog that takes a burst of connections; hand the result to [`serve`].
/// Port 0 picks a free port.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A server that was started again must not wait for the TIME_WAIT of its predecessor's connections.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Serves on a bound listener until `shutdown` completes, then tells everyone, waits for [`Config::drain`] and closes
/// every connection. Ends at once when nobody is connected.
/// [`Config::listen`] is what the listener says.
///
/// The future is not `Send`: give it to `block_on` of a current-thread runtime with time and I/O enabled. Errors are
/// those of setting up; nothing that happens to a connection, nor a failed accept, ends the server.
pub async fn serve(
    listener: TcpListener,
    mut config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    config.listen = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    announce(&config);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(Error::other)?;
    let shell = Rc::new(Shell::new(config, seed));
    let work = async move {
        let clock = shell.clone();
        task::spawn_local(async move { clock.keep_time().await });
        tokio::select! {
            never = accept::run(&listener, &shell) => match never {},
            () = shutdown => {}
        }
        drop(listener);
        shell.drain().await;
    };
    LocalSet::new().run_until(work).await;
    Ok(())
}

fn announce(config: &Config) {
    let listen = config.listen;
    let near = if listen.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port()))
    } else {
        listen
    };
    info!(%listen, viewer = %format_args!("http://{near}/"), "listening");
    if !listen.ip().to_canonical().is_loopback() {
        warn!(
            %listen,
            "everyone who reaches this address can watch and send in every room: there is neither encryption nor \
             authentication. Keep it to a network that you trust, or put a proxy with both before it."
        );
    }
}
