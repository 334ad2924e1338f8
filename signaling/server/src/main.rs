//! The command `room-signaling`.

mod cli;

use anyhow::Context;
use clap::Parser;
use cli::{Cli, Command};
use room_signaling::config::{Loaded, LogFormat, Sources};
use std::{
    io::{self, ErrorKind, IsTerminal},
    net::{SocketAddr, TcpListener},
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt};

/// Descriptors that a server needs beside its connections.
const SPARE_FILES: u64 = 64;

fn main() -> anyhow::Result<()> {
    match Cli::parse().what_to_do() {
        Command::Serve(args) => serve(args.sources()?),
        Command::CheckConfig(args) => check_config(args.sources()?),
    }
}

fn check_config(sources: Sources) -> anyhow::Result<()> {
    for warning in sources.load()?.warnings {
        println!("warning: {warning}");
    }
    println!("ok");
    Ok(())
}

fn serve(sources: Sources) -> anyhow::Result<()> {
    let loaded = sources.load()?;
    start_log(&loaded)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let config = loaded.config;
    raise_file_limit(config.max_connections);
    let listener = bind(config.listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = signals().context("can't wait for signals")?;
        room_signaling::serve(listener, config, shutdown).await?;
        info!("stopped");
        Ok(())
    })
}

/// Logs to standard error: text for people, JSON for what collects it.
///
/// The `log` crate's records are not taken in: at `trace`, tungstenite writes whole messages there, and with them
/// tokens, passwords and instances.
fn start_log(loaded: &Loaded) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(loaded.log_level.as_str())?;
    let terminal = io::stderr().is_terminal();
    let colors = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colors);
    let json = match loaded.log_format {
        Some(format) => format == LogFormat::Json,
        None => !terminal,
    };
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        tracing::subscriber::set_global_default(registry.with(layer.json().flatten_event(true)))?;
    } else {
        tracing::subscriber::set_global_default(registry.with(layer))?;
    }
    Ok(())
}

/// Each connection is an open file, and many systems start programs with room for 1,024.
fn raise_file_limit(max_connections: usize) {
    let wanted = (max_connections as u64).saturating_add(SPARE_FILES);
    match rlimit::Resource::NOFILE.get() {
        Ok((soft, _)) if soft >= wanted => {}
        Ok((_, hard)) => {
            let raised = rlimit::Resource::NOFILE.set(wanted.min(hard), hard);
            if raised.is_err() || hard < max_connections as u64 {
                warn!(
                    hard,
                    max_connections,
                    "the limit of open files allows no more connections than that: raise it \
                     (ulimit -Hn, LimitNOFILE= of systemd)"
                );
            }
        }
        Err(error) => warn!(%error, "can't read the limit of open files"),
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let port = address.port();
    room_signaling::bind(address).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                let other = SocketAddr::new(address.ip(), port.checked_add(1).unwrap_or(8765));
                format!(
                    "another program listens there, maybe another room-signaling. \
                     `ss -ltnp 'sport = :{port}'` tells which; stop it, or choose another port: --listen {other}"
                )
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 are for root: choose a higher one with --listen, or give the program the capability \
                 CAP_NET_BIND_SERVICE"
                    .to_owned()
            }
            ErrorKind::AddrNotAvailable => {
                "no interface of this machine has that address: `ip address` lists them; 0.0.0.0 and [::] are all"
                    .to_owned()
            }
            _ => "choose another address with --listen".to_owned(),
        };
        anyhow::Error::new(error).context(format!("can't listen on {address}: {advice}"))
    })
}

/// Completes with the first SIGINT or SIGTERM. The second one ends the process at once.
fn signals() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        let name = either(&mut interrupt, &mut terminate).await;
        info!(signal = name, "stopping; a second signal stops at once");
        tokio::spawn(async move {
            let name = either(&mut interrupt, &mut terminate).await;
            warn!(signal = name, "stopped at once");
            std::process::exit(1);
        });
    })
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_says_what_to_do() {
        let taken = room_signaling::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = format!("{:#}", bind(address).unwrap_err());
        assert!(error.contains("--listen"), "{error}");
        assert!(error.contains(&format!("sport = :{}", address.port())), "{error}");
    }
}
