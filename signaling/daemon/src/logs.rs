//! Where the program's log goes, and how it looks there.

use crate::{
    journal::{self, Journal},
    lines::Lines,
};
use anyhow::Context;
use room_signaling_server::settings::{Loaded, LogFormat};
use std::io::{self, IsTerminal};
use tracing::{subscriber::set_global_default, warn};
use tracing_subscriber::layer::SubscriberExt;

/// Logs to the journal where standard error is the journal's, else to standard error: text for people, JSON for what
/// collects it.
///
/// The `log` crate's records are not taken in: at `trace`, tungstenite writes whole messages there, and with them
/// tokens, passwords and instances.
pub(crate) fn start(loaded: &Loaded) -> anyhow::Result<()> {
    let terminal = io::stderr().is_terminal();
    let format = loaded.log_format.unwrap_or_else(|| match terminal {
        true => LogFormat::Text,
        false if journal::has_stderr() => LogFormat::Journald,
        false => LogFormat::Json,
    });
    let registry = tracing_subscriber::registry().with(loaded.log_level.targets());
    let colors = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let stderr = || tracing_subscriber::fmt::layer().with_writer(Lines).with_ansi(colors);
    match format {
        LogFormat::Text => set_global_default(registry.with(stderr()))?,
        LogFormat::Json => set_global_default(registry.with(stderr().json().flatten_event(true)))?,
        LogFormat::Journald => match Journal::connect(journal::SOCKET) {
            Ok(journal) => set_global_default(registry.with(journal))?,
            Err(error) if loaded.log_format.is_some() => {
                return Err(error).with_context(|| {
                    format!("log_format is journald, and {} can't be reached", journal::SOCKET)
                });
            }
            Err(error) => {
                set_global_default(registry.with(stderr().json().flatten_event(true)))?;
                warn!(%error, socket = journal::SOCKET, "can't reach the journal");
            }
        },
    }
    Ok(())
}
