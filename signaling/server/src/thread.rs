//! A server in a thread of its own, for programs that do something else.

use crate::{Config, Control, Server, bind};
use std::{
    convert::Infallible,
    future::pending,
    io,
    net::{SocketAddr, TcpListener},
    sync::mpsc::{SyncSender, sync_channel},
    thread::JoinHandle,
};
use tokio::{
    runtime::LocalRuntime,
    sync::{mpsc, oneshot},
};

/// Another configuration, and whom to tell when it is taken.
type Reload = (Config, SyncSender<()>);

/// Binds [`Config::listen`] and serves there in a thread of its own until the result is stopped or dropped.
/// The server takes connections as soon as this returns.
pub fn spawn_thread(config: Config) -> io::Result<Running> {
    let listeners = config.listen.iter().map(|address| bind(*address)).collect::<io::Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    let address = *addresses.first().ok_or_else(|| io::Error::other("there is no address to listen on"))?;
    let (stop, stopped) = oneshot::channel();
    let (reloads, wanted) = mpsc::unbounded_channel();
    let (started, starting) = sync_channel(1);
    let thread = std::thread::Builder::new().name("room-signaling".into()).spawn(move || {
        // The sender is never dropped without a word while the owner lives, so an error is a wish to stop, too.
        let shutdown = async { stopped.await.unwrap_or(()) };
        LocalRuntime::new()?.block_on(async {
            let server = Server::new(listeners, config)?;
            // An error means that nobody waits for it any more.
            let _ = started.send(());
            let control = server.control();
            tokio::select! {
                result = server.run(shutdown) => result,
                never = reload(wanted, control) => match never {},
            }
        })
    })?;
    let mut running = Running { address, addresses, reloads, stop: Some(stop), thread: Some(thread) };
    match starting.recv() {
        Ok(()) => Ok(running),
        // It has ended already.
        Err(_) => Err(running.end().err().unwrap_or_else(|| io::ErrorKind::Other.into())),
    }
}

async fn reload(mut wanted: mpsc::UnboundedReceiver<Reload>, control: Control) -> Infallible {
    while let Some((config, taken)) = wanted.recv().await {
        control.reload(config);
        // An error means that nobody waits for it.
        let _ = taken.send(());
    }
    pending().await
}

/// A server in its thread. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    addresses: Vec<SocketAddr>,
    reloads: mpsc::UnboundedSender<Reload>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// The first address that it listens on, with its port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// All addresses that it listens on, with their ports.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Has it take another configuration, as [`Control::reload`] does. Blocks until it is taken, or the server has
    /// ended.
    pub fn reload(&self, config: Config) {
        let (sender, taken) = sync_channel(1);
        if self.reloads.send((config, sender)).is_ok() {
            // An error means that the server has ended.
            let _ = taken.recv();
        }
    }

    /// Tells everyone connected, waits for [`Config::drain`] and up to 2 s more for those who don't read, closes them
    /// and joins the thread: the port is free then. Blocks for that time, or not at all when nobody is connected.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has ended already; joining it tells why.
            let _ = stop.send(());
        }
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the signaling server's thread panicked")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
