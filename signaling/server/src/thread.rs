//! Runs a server in its own thread, for programs that do something else, such as the plugin.

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

/// A new configuration, and the channel that reports when it is in force.
type Reload = (Config, SyncSender<()>);

/// Binds [`Config::listen`] and serves there in a new thread until the result is stopped or dropped. The server accepts
/// connections as soon as this returns.
///
/// # Errors
///
/// If an address cannot be bound, or the runtime cannot start.
pub fn spawn_thread(config: Config) -> io::Result<Running> {
    let listeners = config.listen.iter().map(|address| bind(*address)).collect::<io::Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    let address = *addresses.first().ok_or_else(|| io::Error::other("there is no address to listen on"))?;
    let (stop, stopped) = oneshot::channel();
    let (reloads, wanted) = mpsc::unbounded_channel();
    let (started, starting) = sync_channel(1);
    let thread = std::thread::Builder::new().name("room-signaling".into()).spawn(move || {
        // The sender is dropped only together with its owner, so an error is a request to stop, too.
        let shutdown = async { stopped.await.unwrap_or(()) };
        LocalRuntime::new()?.block_on(async {
            let server = Server::new(listeners, config)?;
            // An error means that the caller no longer waits.
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
        // The thread has ended already.
        Err(_) => Err(running.end().err().unwrap_or_else(|| io::ErrorKind::Other.into())),
    }
}

async fn reload(mut wanted: mpsc::UnboundedReceiver<Reload>, control: Control) -> Infallible {
    while let Some((config, taken)) = wanted.recv().await {
        control.reload(config);
        // An error means that the caller no longer waits.
        let _ = taken.send(());
    }
    pending().await
}

/// A server that runs in its own thread. Dropping it stops the server.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    addresses: Vec<SocketAddr>,
    reloads: mpsc::UnboundedSender<Reload>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// The first address that the server listens on, with its port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// All addresses that the server listens on, with their ports.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Replaces the configuration, as [`Control::reload`] does. Blocks until it is in force, or the server has ended.
    pub fn reload(&self, config: Config) {
        let (sender, taken) = sync_channel(1);
        if self.reloads.send((config, sender)).is_ok() {
            // An error means that the server has ended.
            let _ = taken.recv();
        }
    }

    /// Shuts the server down: announces it to all clients, waits for [`Config::drain`], closes the connections, and waits up
    /// to 2 s for clients to read that. Then joins the thread, after which the port is free. Returns immediately if nobody
    /// is connected.
    ///
    /// # Errors
    ///
    /// If the server had already failed, or its thread panicked.
    pub fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has ended already. Joining it returns the reason.
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
