//! Where the program's log goes, and how it looks there.

use room_signaling::config::{Loaded, LogFormat};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt};

/// Logs to standard error: text for people, JSON for what collects it.
///
/// The `log` crate's records are not taken in: at `trace`, tungstenite writes whole messages there, and with them
/// tokens, passwords and instances.
pub(crate) fn start(loaded: &Loaded) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(loaded.log_level.as_str())?;
    let terminal = io::stderr().is_terminal();
    let colors = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(colors);
    let json = match loaded.log_format {
        Some(format) => format == LogFormat::Json,
        None => !terminal,
    };
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        tracing::subscriber::set_global_default(registry.with(layer.json().flatten_event(true)))?;
    } else {
        tracing::subscriber::set_global_default(registry.with(layer))?;
    }
    Ok(())
}
