//! The command `serve`: from the sources of the configuration to a server in the hands of its operator.

use crate::{
    cli, logs,
    operator::{self, Operator},
};
use room_signaling::{Server, config::Sources};
use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};
use tracing::{info, warn};

/// Descriptors that a server needs beside its connections.
const SPARE_FILES: u64 = 64;

/// Serves until it is told to stop.
pub(crate) fn serve(sources: Sources) -> anyhow::Result<()> {
    let loaded = sources.load()?;
    logs::start(&loaded)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    for variable in cli::unknown_variables() {
        warn!(variable, "there is no such setting: --help names them");
    }
    raise_file_limit(loaded.config.limits.max_connections);
    let listener = bind(loaded.config.listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Who reads that it listens may send a signal at once.
        let (hangup, shutdown) = (operator::hangup()?, operator::shutdown()?);
        let server = Server::new(listener, loaded.config.clone())?;
        let mut operator = Operator::new(sources, loaded, server.control(), hangup);
        tokio::select! {
            () = server.run(shutdown) => {}
            never = operator.run() => match never {},
        }
        info!("stopped");
        Ok(())
    })
}

/// Each connection is an open file, and many systems start programs with room for 1,024.
pub(crate) fn raise_file_limit(max_connections: usize) {
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
