//! The command `serve`: loads the configuration, binds the addresses and runs the server.

use crate::{
    log, open_files,
    service::{self, Service},
};
use room_signaling_server::{Server, settings::Sources};
use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};
use tokio::runtime::LocalRuntime;
use tracing::{info, warn};

/// Serves until SIGINT or SIGTERM.
pub(crate) fn serve(sources: Sources) -> anyhow::Result<()> {
    let loaded = sources.load()?;
    // Before the first thread starts.
    let raised = open_files::raise_limit(loaded.config.limits.max_connections);
    log::start(&loaded)?;
    if let Err(error) = raised {
        warn!("{error}");
    }
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let listeners = loaded.config.listen.iter().copied().map(bind).collect::<anyhow::Result<Vec<_>>>()?;
    LocalRuntime::new()?.block_on(async {
        // Signals are handled before the log says that the server listens.
        let (hangup, shutdown) = (service::hangup()?, service::shutdown()?);
        let server = Server::new(listeners, loaded.config.clone())?;
        let mut service = Service::new(sources, loaded, server.control(), hangup);
        tokio::select! {
            result = server.run(shutdown) => result?,
            never = service.run() => match never {},
        }
        info!("stopped");
        Ok(())
    })
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let port = address.port();
    room_signaling_server::bind(address).map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                let other = SocketAddr::new(address.ip(), port.checked_add(1).unwrap_or(8765));
                format!(
                    "another program, maybe another room-signaling, listens on this address. \
                     `ss -ltnp 'sport = :{port}'` shows which one. Stop it, or choose another port: --listen {other}"
                )
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 are reserved for root: choose a higher one with --listen, or give the program the capability \
                 CAP_NET_BIND_SERVICE"
                    .to_owned()
            }
            ErrorKind::AddrNotAvailable => {
                "no interface of this machine has this address: `ip address` lists the addresses; 0.0.0.0 and [::] mean all of them"
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
    fn the_error_of_a_port_in_use_explains_the_remedy() {
        let taken = room_signaling_server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = format!("{:#}", bind(address).unwrap_err());
        assert!(error.contains("--listen"), "{error}");
        assert!(error.contains(&format!("sport = :{}", address.port())), "{error}");
    }
}
