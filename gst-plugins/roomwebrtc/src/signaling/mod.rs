//! What both elements need to be in a room: the signaling properties, the state of the connection to the server, and the
//! runtime that the signaling client runs on.

mod settings;
mod status;

pub(crate) use self::{
    settings::{SignalingSettings, properties, random_instance},
    status::{SignalingState, SignalingStatus, warn_unreachable},
};

use std::sync::OnceLock;

/// The runtime of all signaling clients of this process: one thread, made when first needed and kept.
pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("room-signaling")
            .enable_all()
            .build()
            .expect("a thread and an epoll descriptor, without which nothing in this process works")
    })
}
