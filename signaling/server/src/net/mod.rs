//! Sockets: how connections are accepted and admitted, TLS, the head of a request, and the WebSocket with its queue.

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
pub(crate) mod throttle;
pub(crate) mod tls;
