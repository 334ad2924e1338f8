//! The shell around [`room_protocol::Hub`]: sockets, HTTP, heartbeat, logs.
//!
//! One thread owns the Hub and every socket: a message is read, judged and written by the same thread, so there is
//! nothing to lock and nothing to race. [`Server`] is that thread's work; [`spawn_thread`] brings the thread along.
//!
//! Architecture invariant: one connection never makes another wait. What a peer does not read piles up in its own
//! bounded queue, and a full one closes that peer.

pub mod auth;
pub mod config;
mod driver;
mod http;
mod limits;
mod net;
mod thread;
mod turn;

pub use config::Config;
pub use http::admin::AdminToken;
pub use limits::{Limits, SPARE_FILES};
pub use net::{
    proxies::TrustedProxy,
    tls::{Age, Tls, TlsError},
};
pub use room_protocol as protocol;
pub use thread::{Running, spawn_thread};

use driver::shell::Shell;
use http::pages::Door;
use net::accept;
use room_protocol::hub::Auth;
use socket2::{Domain, Socket, Type};
use std::{
    io::{Error, Result},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    rc::Rc,
};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// Listens on `address` with a backlog that takes a burst of connections; hand the result to [`Server::new`].
/// Port 0 picks a free port.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A server that was started again must not wait for the TIME_WAIT of its predecessor's connections.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// A server that is about to run in this thread.
#[derive(Debug)]
pub struct Server {
    listener: tokio::net::TcpListener,
    operators: Option<tokio::net::TcpListener>,
    shell: Rc<Shell>,
}

/// Where a server is told of changes, in its own thread.
#[derive(Debug, Clone)]
pub struct Control {
    shell: Rc<Shell>,
}

impl Server {
    /// Takes a bound listener, and announces where it listens, which is what [`Config::listen`] becomes; binds
    /// [`Config::metrics_listen`]. Call it in a [`LocalRuntime`](tokio::runtime::LocalRuntime) with time and I/O enabled.
    pub fn new(listener: TcpListener, mut config: Config) -> Result<Self> {
        config.listen = listener.local_addr()?;
        let listener = for_tokio(listener)?;
        let operators = config.metrics_listen.map(|address| for_tokio(bind(address)?)).transpose()?;
        config.metrics_listen = operators.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?;
        announce(&config);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(Error::other)?;
        Ok(Self { listener, operators, shell: Rc::new(Shell::new(config, seed)) })
    }

    /// Where to tell it of changes.
    pub fn control(&self) -> Control {
        Control { shell: self.shell.clone() }
    }

    /// Serves until `shutdown` completes, then tells everyone, waits for [`Config::drain`] and closes every
    /// connection. Ends at once when nobody is connected. Nothing that happens to a connection, nor a failed accept,
    /// ends it.
    ///
    /// # Errors
    ///
    /// If a part of the server itself panicked. Without that part, the server would look alive and do half of its work,
    /// so let the program end and be started again.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Self { listener, operators, shell } = self;
        // Ends them when this ends.
        let mut work = JoinSet::new();
        let clock = shell.clone();
        work.spawn_local(async move { clock.keep_time().await });
        let lane = shell.clone();
        work.spawn_local(async move { lane.lane().run().await });
        let keeper = shell.clone();
        work.spawn_local(async move { keeper.keep_house().await });
        for _ in 0..auth::CHECKED_AT_A_TIME {
            let checker = shell.clone();
            work.spawn_local(async move { checker.check_passwords().await });
        }
        for (listener, door) in [(Some(listener), Door::Public), (operators, Door::Operators)] {
            let Some(listener) = listener else { continue };
            let shell = shell.clone();
            work.spawn_local(async move { match accept::run(&listener, door, &shell).await {} });
        }
        let serve = async {
            shutdown.await;
            // Requests are answered until the end: /readyz, and a word for those who want to connect.
            shell.drain().await;
        };
        tokio::select! {
            () = serve => Ok(()),
            error = supervise(work) => Err(error),
        }
    }
}

/// Waits for a task of the core to end, which none does unless it panics. Returns why it did.
async fn supervise(mut work: JoinSet<()>) -> Error {
    let why = match work.join_next().await {
        Some(Err(error)) if error.is_panic() => {
            let panic = error.into_panic();
            let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
        }
        _ => "it ended".to_owned(),
    };
    error!(
        panic = why,
        "a part of the server failed: the server ends, because it would serve only half without it"
    );
    Error::other(format!("a part of the server failed: {why}"))
}

impl Control {
    /// The configuration that the server has.
    pub fn config(&self) -> Rc<Config> {
        self.shell.config()
    }

    /// Takes another configuration and goes on with everyone who is connected. Where it listens stays as it is.
    pub fn reload(&self, config: Config) {
        self.shell.reload(config);
    }
}

fn for_tokio(listener: TcpListener) -> Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn announce(config: &Config) {
    let listen = config.listen;
    let near = if listen.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port()))
    } else {
        listen
    };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    info!(%listen, viewer = %format_args!("{scheme}://{near}/"), "listening");
    if let Some(listen) = config.metrics_listen {
        info!(%listen, metrics = %format_args!("http://{listen}/metrics"), "answering operators");
    }
    if !listen.ip().to_canonical().is_loopback() && config.tls.is_none() && config.hub.auth == Auth::None {
        warn!(
            %listen,
            "everyone who reaches this address can watch and send in every room: there is neither encryption nor \
             authentication. Keep it to a network that you trust, set up TLS (--tls-certificate, --tls-key), or put \
             a proxy with both before it."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(flavor = "local")]
    async fn a_task_of_the_core_that_panics_is_reported() {
        let mut work = JoinSet::new();
        work.spawn_local(pending::<()>());
        work.spawn_local(async {
            tokio::task::yield_now().await;
            panic!("for {}", "a test");
        });
        assert_eq!(supervise(work).await.to_string(), "a part of the server failed: for a test");
    }
}
