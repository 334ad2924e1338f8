//! The program as a service: signals (reload, shutdown), the renewal of the certificate, and the notifications and the
//! watchdog of systemd. The server decides what a reload makes weaker (`settings/weaker.rs`).

use crate::{log, open_files};
use anyhow::Context;
use room_signaling_server::{
    Config, Control,
    config::ConfigError,
    settings::{Loaded, Sources, TlsFiles},
};
use sd_notify::NotifyState;
use std::{convert::Infallible, future::pending, io, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{self, MissedTickBehavior},
};
use tracing::{error, info, warn};

/// The part of the program that handles SIGHUP and notifies the service manager.
#[derive(Debug)]
pub(crate) struct Service {
    sources: Sources,
    /// The settings with which the server started. Those that only a restart can change still apply.
    started: Loaded,
    control: Control,
    hangup: Signal,
    /// The files of the certificate in use.
    tls_files: Option<TlsFiles>,
}

impl Service {
    /// Notifies the service manager that the server is ready.
    pub(crate) fn new(sources: Sources, started: Loaded, control: Control, hangup: Signal) -> Self {
        let listen: Vec<String> = control.config().listen.iter().map(ToString::to_string).collect();
        let listening = format!("Listening on {}", listen.join(", "));
        notify(&[NotifyState::Ready, NotifyState::Status(&listening)]);
        Self { sources, tls_files: started.tls_files.clone(), started, control, hangup }
    }

    /// Handles signals and renewals for ever.
    pub(crate) async fn run(&mut self) -> Infallible {
        tokio::select! {
            never = watchdog() => never,
            never = self.keep_up_to_date() => never,
        }
    }

    async fn keep_up_to_date(&mut self) -> Infallible {
        loop {
            let check = self.tls_files.as_ref().map(|files| files.check);
            tokio::select! {
                Some(()) = self.hangup.recv() => self.reload().await,
                () = time::sleep(check.unwrap_or_default()), if check.is_some() => self.renew_certificate().await,
                else => pending().await,
            }
        }
    }

    async fn reload(&mut self) {
        let now = NotifyState::monotonic_usec_now();
        notify(&[Some(NotifyState::Reloading), now.ok()].into_iter().flatten().collect::<Vec<_>>());
        match self.load().await {
            Ok(loaded) => {
                self.apply(loaded);
            }
            Err(error) => {
                for line in error.to_string().lines() {
                    error!(problem = line, "the new configuration is wrong");
                }
                warn!("not reloaded: the configuration stays as it was");
                self.control.reload_failed();
            }
        }
        notify(&[NotifyState::Ready]);
    }

    /// Loads the certificate if its files have changed. While certificate and key don't match, one may not be written yet.
    async fn renew_certificate(&mut self) {
        let Some(mut files) = self.tls_files.clone() else { return };
        let work = move || (files.renewed(), files);
        let (Some(renewed), files) = off_thread(work).await else { return };
        self.tls_files = Some(files);
        match renewed {
            Ok(tls) => {
                let config = Config { tls: Some(tls), ..(*self.control.config()).clone() };
                self.control.reload(config);
                info!("the certificate was renewed");
            }
            Err(problem) => {
                error!(problem, "the certificate was renewed with errors; the old one is kept");
                self.control.reload_failed();
            }
        }
    }

    /// Loads the configuration in another thread, because reading files and checking keys would stop the server.
    async fn load(&self) -> Result<Loaded, ConfigError> {
        let sources = self.sources.clone();
        off_thread(move || sources.load()).await
    }

    fn apply(&mut self, loaded: Loaded) {
        for key in self.started.differences_for_restart(&loaded) {
            warn!(key, "only a restart changes this");
        }
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        if let Err(error) = open_files::raise_limit(loaded.config.limits.max_connections) {
            warn!("{error}");
        }
        // A reload can't switch TLS on or off. In that case, the renewal of the certificate in use continues.
        if loaded.config.tls.is_some() == self.tls_files.is_some() {
            self.tls_files = loaded.tls_files;
        }
        self.control.reload(loaded.config);
        info!("reloaded");
    }
}

/// Begins to receive SIGHUP.
pub(crate) fn hangup() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("SIGHUP can't be handled")
}

/// Completes with the first SIGINT or SIGTERM. The second one ends the process immediately.
pub(crate) fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let stop =
        || -> io::Result<_> { Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)) };
    let (mut interrupt, mut terminate) = stop().context("signals can't be handled")?;
    Ok(async move {
        let name = either(&mut interrupt, &mut terminate).await;
        info!(signal = name, "shutting down; a second signal stops immediately");
        notify(&[NotifyState::Stopping, NotifyState::Status("Closing connections")]);
        tokio::spawn(async move {
            let name = either(&mut interrupt, &mut terminate).await;
            warn!(signal = name, "stopped immediately");
            log::flush();
            std::process::exit(1);
        });
    })
}

/// Runs a blocking function in another thread.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// Notifies the service manager twice in each interval that this thread, which serves all clients, is alive.
async fn watchdog() -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled() else { return pending().await };
    let mut ticks = time::interval((limit / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

/// Notifies the service manager, if there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "the service manager can't be notified");
    }
}
