//! Takes connections, whatever goes wrong with one of them.

use crate::{connection::Connection, http, shell::Shell};
use std::{convert::Infallible, io, rc::Rc, time::Duration};
use tokio::{net::TcpListener, task, time};
use tracing::warn;

/// How long to wait after a failed accept, at first and at most. Such a failure (EMFILE) lasts until some connection
/// ends, and trying without a pause would burn the processor that the others need.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// Connections over the limit that are told so; more are just dropped.
const TOLD: usize = 128;

/// Takes connections for ever.
pub(crate) async fn run(listener: &TcpListener, shell: &Rc<Shell>) -> Infallible {
    let mut pause = PAUSES.0;
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                pause = PAUSES.0;
                let address = (address.ip().to_canonical(), address.port()).into();
                let (slot, taken) = shell.slot();
                let over = taken.saturating_sub(shell.config().max_connections);
                if over > TOLD {
                    continue;
                }
                // Without it, a peer waits up to 40 ms for what is already queued. Failing is no reason to refuse.
                let _ = stream.set_nodelay(true);
                let shell = shell.clone();
                task::spawn_local(async move {
                    // What the request needs is given back before the connection lives on: hence the box, and a
                    // second task for the rest of its life.
                    let upgraded = Box::pin(http::converse(&shell, stream, address, over > 0)).await;
                    if let Some((stream, read_ahead)) = upgraded {
                        task::spawn_local(Connection::open(shell, slot, stream, address, read_ahead));
                    }
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, ?pause, "can't take connections: is the limit of open files (ulimit -n) too low?");
                time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Whether the failure says something about the connection that was to be taken, and nothing about the next.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
