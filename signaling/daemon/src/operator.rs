//! What the operator wants while the server runs, by way of signals, and what the service manager is told of it.

use crate::{files, lines};
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

/// The other end of signals and of the service manager.
#[derive(Debug)]
pub(crate) struct Operator {
    sources: Sources,
    /// What was loaded when the server started: what only a restart can change is from there.
    started: Loaded,
    control: Control,
    hangup: Signal,
    /// Where the certificate is from.
    tls_files: Option<TlsFiles>,
}

impl Operator {
    /// Tells the service manager that the server is ready.
    pub(crate) fn new(sources: Sources, started: Loaded, control: Control, hangup: Signal) -> Self {
        let listen: Vec<String> = control.config().listen.iter().map(ToString::to_string).collect();
        let listening = format!("Listening on {}", listen.join(", "));
        tell(&[NotifyState::Ready, NotifyState::Status(&listening)]);
        Self { sources, tls_files: started.tls_files.clone(), started, control, hangup }
    }

    /// Serves the operator for ever.
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
        tell(&[Some(NotifyState::Reloading), now.ok()].into_iter().flatten().collect::<Vec<_>>());
        match self.load().await {
            Ok(loaded) => {
                self.take(loaded);
            }
            Err(error) => {
                for line in error.to_string().lines() {
                    error!(problem = line, "the new configuration is wrong");
                }
                warn!("not reloaded: the configuration stays as it was");
                self.control.reload_failed();
            }
        }
        tell(&[NotifyState::Ready]);
    }

    /// Takes a certificate whose files have changed. While they don't fit, one of them may still be to come.
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

    /// Files are read, and keys checked, while the server's thread goes on serving.
    async fn load(&self) -> Result<Loaded, ConfigError> {
        let sources = self.sources.clone();
        off_thread(move || sources.load()).await
    }

    fn take(&mut self, loaded: Loaded) {
        for key in self.started.differences_for_restart(&loaded) {
            warn!(key, "only a restart changes this");
        }
        for warning in &loaded.warnings {
            warn!("{warning}");
        }
        if let Err(error) = files::make_room(loaded.config.limits.max_connections) {
            warn!("{error}");
        }
        // Where TLS can't be switched on or off, the certificate that is in use is renewed further on.
        if loaded.config.tls.is_some() == self.tls_files.is_some() {
            self.tls_files = loaded.tls_files;
        }
        self.control.reload(loaded.config);
        info!("reloaded");
    }
}

/// Where SIGHUP comes in, from now on.
pub(crate) fn hangup() -> anyhow::Result<Signal> {
    signal(SignalKind::hangup()).context("can't wait for SIGHUP")
}

/// Completes with the first SIGINT or SIGTERM. The second one ends the process at once.
pub(crate) fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    let stop =
        || -> io::Result<_> { Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)) };
    let (mut interrupt, mut terminate) = stop().context("can't wait for signals")?;
    Ok(async move {
        let name = either(&mut interrupt, &mut terminate).await;
        info!(signal = name, "stopping; a second signal stops at once");
        tell(&[NotifyState::Stopping, NotifyState::Status("Closing connections")]);
        tokio::spawn(async move {
            let name = either(&mut interrupt, &mut terminate).await;
            warn!(signal = name, "stopped at once");
            lines::flush();
            std::process::exit(1);
        });
    })
}

/// Does what blocks.
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

/// Tells the service manager twice in each of its intervals that this thread, which serves everyone, goes on.
async fn watchdog() -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled() else { return pending().await };
    let mut ticks = time::interval((limit / 2).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// Tells the service manager, where there is one.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "can't tell the service manager");
    }
}
