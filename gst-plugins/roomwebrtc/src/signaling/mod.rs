//! Signaling in both elements: the properties (`settings.rs`), the state of the connection (`status.rs`), and the runtime of
//! the signaling client.

mod settings;
mod status;

pub(crate) use self::{
    settings::{SignalingSettings, properties, random_instance},
    status::{SignalingState, SignalingStatus, warn_unreachable},
};

use std::sync::OnceLock;

/// The runtime of all signaling clients of this process, with one thread. Created on first use.
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
