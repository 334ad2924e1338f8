//! Chooses the destination and the format of the log. `room_signaling_server` decides which events are logged.

mod journal;
mod stderr;

pub(crate) use stderr::flush;

use anyhow::Context;
use journal::Journal;
use room_signaling_server::settings::{Loaded, LogFormat};
use std::io::{self, IsTerminal};
use stderr::LogWriter;
use tracing::{subscriber::set_global_default, warn};
use tracing_subscriber::layer::SubscriberExt;

/// Starts logging: to the journal if standard error is connected to the journal, otherwise to standard error, as text on a
/// terminal and as JSON elsewhere.
///
/// Records of the `log` crate are not included, because tungstenite writes whole messages there at `trace`, with tokens,
/// passwords and instances.
pub(crate) fn start(loaded: &Loaded) -> anyhow::Result<()> {
    let terminal = io::stderr().is_terminal();
    let format = loaded.log_format.unwrap_or_else(|| match terminal {
        true => LogFormat::Text,
        false if journal::has_stderr() => LogFormat::Journald,
        false => LogFormat::Json,
    });
    let registry = tracing_subscriber::registry().with(loaded.log_level.targets());
    let colors = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let stderr = || tracing_subscriber::fmt::layer().with_writer(LogWriter).with_ansi(colors);
    match format {
        LogFormat::Text => set_global_default(registry.with(stderr()))?,
        LogFormat::Json => set_global_default(registry.with(stderr().json().flatten_event(true)))?,
        LogFormat::Journald => match Journal::connect(journal::SOCKET) {
            Ok(journal) => set_global_default(registry.with(journal))?,
            Err(error) if loaded.log_format.is_some() => {
                return Err(error).with_context(|| {
                    format!("log_format is journald, but {} can't be reached", journal::SOCKET)
                });
            }
            Err(error) => {
                set_global_default(registry.with(stderr().json().flatten_event(true)))?;
                warn!(%error, socket = journal::SOCKET, "the journal can't be reached; logging to standard error");
            }
        },
    }
    Ok(())
}
