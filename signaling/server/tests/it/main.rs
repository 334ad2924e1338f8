//! The server over real sockets, on free ports.

mod common;
mod crowd;
mod frames;
mod http;
mod liveness;
mod program;
mod rooms;
mod shutdown;
mod slow;
