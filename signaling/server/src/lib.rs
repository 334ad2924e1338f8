//! The shell around [`room_protocol::Hub`]: sockets, HTTP, heartbeat, logs.
//!
//! One thread owns the Hub and every socket: a message is read, judged and written by the same thread, so there is
//! nothing to lock and nothing to race. [`Server`] is that thread's work; [`spawn_thread`] brings the thread along.
//!
//! Architecture invariant: one connection never makes another wait. What a peer does not read piles up in its own
//! bounded queue, and a full one closes that peer.

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
    /// A server on these listeners, which are bound; their addresses replace [`Config::listen`] and are logged. Binds
    /// [`Config::metrics_listen`]. Needs a [`LocalRuntime`](tokio::runtime::LocalRuntime) with time and I/O enabled.
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

    /// Serves until `shutdown` completes, then tells everyone, waits for [`Config::drain`] and closes every
    /// connection. Ends at once when nobody is connected. Nothing that happens to a connection, nor a failed accept,
    /// ends it.
    ///
    /// # Errors
    ///
    /// If a part of the server itself panicked. Without that part, the server would look alive and do half of its work,
    /// so let the program end and be started again.
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
        self.context.config()
    }

    /// Replaces the configuration; open connections stay. The addresses stay, too, and so does TLS: a server that was
    /// started with TLS keeps its certificate if the new configuration has none, and one that was started without TLS
    /// stays so. Logs at `warn` what the new configuration makes weaker.
    pub fn reload(&self, mut config: Config) {
        let old = self.context.config();
        config.listen.clone_from(&old.listen);
        config.metrics_listen = old.metrics_listen;
        if config.tls.is_some() != old.tls.is_some() {
            let change = if old.tls.is_some() { "off" } else { "on" };
            warn!("TLS stays as it is, because only a restart switches it {change}");
            config.tls.clone_from(&old.tls);
        }
        for words in weaker::than(&old, &config) {
            warn!("weaker than before: {words}");
        }
        warn_if_open(&config);
        self.driver.reload(config);
        self.context.metrics().reloaded(true);
    }

    /// Another configuration was asked for and has errors, so the old one stays. Metrics show that.
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
