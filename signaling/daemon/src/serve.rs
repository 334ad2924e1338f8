//! The command `serve`: from the sources of the configuration to a server in the hands of its operator.

use crate::{
    files, logs,
    operator::{self, Operator},
};
use room_signaling_server::{Server, settings::Sources};
use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};
use tokio::runtime::LocalRuntime;
use tracing::{info, warn};

/// Serves until it is told to stop.
pub(crate) fn serve(sources: Sources) -> anyhow::Result<()> {
    let loaded = sources.load()?;
    // Before there are threads.
    let room = files::make_room(loaded.config.limits.max_connections);
    logs::start(&loaded)?;
    if let Err(error) = room {
        warn!("{error}");
    }
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    let listeners = loaded.config.listen.iter().copied().map(bind).collect::<anyhow::Result<Vec<_>>>()?;
    LocalRuntime::new()?.block_on(async {
        // Who reads that it listens may send a signal at once.
        let (hangup, shutdown) = (operator::hangup()?, operator::shutdown()?);
        let server = Server::new(listeners, loaded.config.clone())?;
        let mut operator = Operator::new(sources, loaded, server.control(), hangup);
        tokio::select! {
            result = server.run(shutdown) => result?,
            never = operator.run() => match never {},
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
        let taken = room_signaling_server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = format!("{:#}", bind(address).unwrap_err());
        assert!(error.contains("--listen"), "{error}");
        assert!(error.contains(&format!("sport = :{}", address.port())), "{error}");
    }
}
