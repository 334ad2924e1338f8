//! The signaling server around [`room_protocol::Hub`]: sockets, HTTP, authentication, settings, metrics and logs.
//!
//! One thread owns the Hub and every socket, so there are no locks. [`Server`] runs in the calling thread; [`spawn_thread`]
//! starts a new one.
//!
//! | to change | see |
//! | --- | --- |
//! | how a connection is accepted | `net/accept.rs` |
//! | the PROXY protocol | `net/proxy_header.rs` |
//! | the bound of one connection's queue | `net/queue.rs` |
//! | the memory budget | `net/budget.rs`; `driver/mod.rs` enforces it |
//! | HTTP routes | `http/route.rs` |
//! | metrics | `metrics/mod.rs` |
//! | log lines | `log.rs` |
//! | limits | `limits.rs` |
//! | settings | `settings/mod.rs` |
//!
//! Architecture invariant: one connection never makes another wait. What a peer does not read waits in its own bounded queue,
//! and a queue that overflows closes that peer.

#![forbid(unsafe_code)]

pub mod auth;
pub mod config;
mod context;
mod driver;
mod http;
mod limits;
mod log;
mod metrics;
mod net;
pub mod settings;
mod thread;

pub use auth::AdminToken;
pub use limits::{Limits, SPARE_FILES};
pub use net::{
    proxies::TrustedProxy,
    tls::{Age, Tls, TlsError},
};
pub use room_protocol as protocol;
pub use settings::Config;
pub use thread::{Running, spawn_thread};

use context::ServerContext;
use driver::Driver;
use http::site::Site;
use net::{
    accept::{self, Acceptor},
    connection::Resources,
    door::{Door, Doors},
    io::Scratch,
    lane::Lane,
};
use room_protocol::hub::Auth;
use settings::weaker;
use socket2::{Domain, Socket, Type};
use std::{
    cell::RefCell,
    io::{Error, Result},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    rc::Rc,
};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// Listens on `address`, with a backlog for a burst of connections. Pass the result to [`Server::new`]. Port 0 selects a free
/// port.
///
/// # Errors
///
/// If the address is in use, is not of this machine, or needs privileges.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Otherwise a restarted server could not listen while old connections are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// A server that runs in this thread.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<tokio::net::TcpListener>,
    operators: Option<tokio::net::TcpListener>,
    acceptor: Rc<Acceptor>,
}

/// Changes the settings of a server that runs, from its own thread.
#[derive(Debug, Clone)]
pub struct Control {
    context: Rc<ServerContext>,
    driver: Rc<Driver>,
}

impl Server {
    /// Creates a server on bound listeners. Their addresses replace [`Config::listen`] and are logged. Binds
    /// [`Config::metrics_listen`]. Needs a [`LocalRuntime`](tokio::runtime::LocalRuntime) with time and I/O enabled.
    ///
    /// # Errors
    ///
    /// If a listener cannot be used, `metrics_listen` cannot be bound, or the system has no random numbers.
    pub fn new(listeners: Vec<TcpListener>, mut config: Config) -> Result<Self> {
        config.listen = listeners.iter().map(TcpListener::local_addr).collect::<Result<_>>()?;
        let listeners = listeners.into_iter().map(for_tokio).collect::<Result<_>>()?;
        let operators = config.metrics_listen.map(|address| for_tokio(bind(address)?)).transpose()?;
        config.metrics_listen = operators.as_ref().map(tokio::net::TcpListener::local_addr).transpose()?;
        announce(&config);
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(Error::other)?;
        let context = Rc::new(ServerContext::new(config));
        let driver = Rc::new(Driver::new(context.clone(), seed));
        let (doors, lane) = (Rc::new(Doors::default()), Rc::new(Lane::default()));
        let site = Rc::new(Site::new(context.clone(), driver.clone(), doors.clone(), lane.clone()));
        let scratch = RefCell::new(Scratch::new());
        let resources = Rc::new(Resources { context, driver, lane, scratch });
        Ok(Self { listeners, operators, acceptor: Rc::new(Acceptor { doors, site, resources }) })
    }

    /// A handle that changes the settings while the server runs.
    pub fn control(&self) -> Control {
        let Resources { context, driver, .. } = &*self.acceptor.resources;
        Control { context: context.clone(), driver: driver.clone() }
    }

    /// Serves until `shutdown` completes. Then announces the shutdown to all clients, waits for [`Config::drain`], and closes
    /// every connection; if there is none, it returns immediately. No failure of a connection and no failed accept ends the
    /// server.
    ///
    /// # Errors
    ///
    /// If one of the server's own tasks panicked. Without that task, the server would appear healthy and do only a part of its
    /// work, so the program should exit and be restarted.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let Self { listeners, operators, acceptor } = self;
        let Resources { context, driver, lane, .. } = &*acceptor.resources;
        // Dropping the set ends its tasks.
        let mut work = JoinSet::new();
        let clock = driver.clone();
        work.spawn_local(async move { clock.keep_time().await });
        let lane = lane.clone();
        work.spawn_local(async move { lane.run().await });
        let summary = context.clone();
        work.spawn_local(async move { summary.summarize_log().await });
        let lag = context.clone();
        work.spawn_local(async move { lag.measure_lag().await });
        for _ in 0..auth::CHECKED_AT_A_TIME {
            let checker = driver.clone();
            work.spawn_local(async move { checker.check_passwords().await });
        }
        let public = listeners.into_iter().map(|listener| (listener, Door::Public));
        for (listener, door) in public.chain(operators.map(|listener| (listener, Door::Operators))) {
            let acceptor = acceptor.clone();
            work.spawn_local(async move { match accept::run(&listener, door, &acceptor).await {} });
        }
        let serve = async {
            shutdown.await;
            // Requests are answered until the end, for /readyz and for clients that try to connect.
            driver.drain().await;
        };
        tokio::select! {
            () = serve => Ok(()),
            error = supervise(work) => Err(error),
        }
    }
}

/// Waits until one of the server's own tasks ends, which happens only if it panics. Returns the reason.
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
        "a task of the server failed, so the server ends: please report this, with the panic message"
    );
    Error::other(format!("a task of the server failed: {why}"))
}

impl Control {
    /// The configuration in force.
    pub fn config(&self) -> Rc<Config> {
        self.context.config()
    }

    /// Replaces the configuration. Open connections stay, and so do the addresses and TLS: a server that was started with TLS
    /// keeps its certificate if the new configuration has none, and one that was started without TLS remains without.
    /// Everything by which the new configuration reduces security is logged at `warn`.
    pub fn reload(&self, mut config: Config) {
        let old = self.context.config();
        config.listen.clone_from(&old.listen);
        config.metrics_listen = old.metrics_listen;
        if config.tls.is_some() != old.tls.is_some() {
            let change = if old.tls.is_some() { "off" } else { "on" };
            warn!("TLS stays as it is: restart the server to switch it {change}");
            config.tls.clone_from(&old.tls);
        }
        for change in weaker::than(&old, &config) {
            warn!("this reload reduces security: {change}");
        }
        warn_if_open(&config);
        self.driver.reload(config);
        self.context.metrics().reloaded(true);
    }

    /// Records in the metrics that a new configuration had errors, so that the old one stays in force.
    pub fn reload_failed(&self) {
        self.context.metrics().reloaded(false);
    }
}

fn for_tokio(listener: TcpListener) -> Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn announce(config: &Config) {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    for listen in &config.listen {
        let near = if listen.ip().is_unspecified() {
            SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port()))
        } else {
            *listen
        };
        info!(%listen, viewer = %format_args!("{scheme}://{near}/"), "listening");
    }
    if let Some(listen) = config.metrics_listen {
        info!(%listen, metrics = %format_args!("http://{listen}/metrics"), "answering operators");
    }
    warn_if_open(config);
}

/// Warns, at the start and after each reload, if everybody in the network may use the server and read its traffic.
fn warn_if_open(config: &Config) {
    let public = config.listen.iter().find(|listen| !listen.ip().to_canonical().is_loopback());
    if let Some(listen) = public.filter(|_| config.tls.is_none() && config.hub.auth == Auth::None) {
        warn!(
            %listen,
            "everybody who reaches this address can watch and send in every room without a password, because there is neither \
             encryption nor authentication. Use it in a trusted network only, set up TLS (--tls-certificate, --tls-key), or put a \
             proxy with both in front of it."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test(flavor = "local")]
    async fn a_panic_of_a_server_task_is_reported() {
        let mut work = JoinSet::new();
        work.spawn_local(pending::<()>());
        work.spawn_local(async {
            tokio::task::yield_now().await;
            panic!("for {}", "a test");
        });
        assert_eq!(supervise(work).await.to_string(), "a task of the server failed: for a test");
    }
}
