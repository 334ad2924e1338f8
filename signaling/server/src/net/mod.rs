//! Sockets.
//!
//! - `accept.rs` accepts connections; `admission.rs` limits them; `door.rs` has the two kinds of addresses.
//! - `proxy_header.rs` parses the PROXY protocol; `proxies.rs` finds the client in `X-Forwarded-For`; `tls.rs` has the
//!   certificate; `head.rs` parses the head of an HTTP request.
//! - `connection.rs` runs a WebSocket; `io.rs` is the socket below it; `throttle.rs` limits its rates; `lane.rs` makes
//!   newcomers and floods wait.
//! - `queue.rs` bounds the outbound frames of one connection; `budget.rs` adds up the memory of all; `registry.rs` lists
//!   the open connections. `driver/mod.rs` enforces the budget.

pub(crate) mod accept;
pub(crate) mod admission;
pub(crate) mod budget;
pub(crate) mod connection;
pub(crate) mod door;
pub(crate) mod head;
pub(crate) mod io;
pub(crate) mod lane;
pub(crate) mod proxies;
pub(crate) mod proxy_header;
pub(crate) mod queue;
pub(crate) mod registry;
pub(crate) mod socket;
pub(crate) mod throttle;
pub(crate) mod tls;
