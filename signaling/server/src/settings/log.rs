//! The settings of the log.

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs that collect logs: one object on each line.
    Json,
    /// Into systemd's journal, with its fields.
    Journald,
}

/// The least important level that is logged, for all of the program or for parts of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevel(Targets);

impl LogLevel {
    /// The filter for tracing.
    pub fn targets(&self) -> Targets {
        self.0.clone()
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let advice = |of| {
            format!(
                "{of:?} is neither off, error, warn, info, debug or trace nor a part of the program with one of them, \
                 like room_signaling::log=debug"
            )
        };
        // Targets would parse an unknown level as the name of a part of the program that logs everything.
        let is_no_level = |part: &&str| !part.contains('=') && part.parse::<LevelFilter>().is_err();
        match text.split(',').find(is_no_level) {
            Some(part) => Err(advice(part)),
            None => text.parse().map(Self).map_err(|_| advice(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_a_level_or_levels_of_parts() {
        let level = |text: &str| LogLevel::try_from(text.to_owned());
        assert_eq!(level("info").unwrap(), LogLevel::default());
        let targets = level("warn,room_signaling::log=debug").unwrap().targets();
        let enabled = |target, level| targets.would_enable(target, &level);
        assert!(enabled("room_signaling::log", tracing::Level::DEBUG));
        assert!(
            !enabled("room_signaling", tracing::Level::INFO)
                && enabled("room_signaling", tracing::Level::WARN)
        );
        for (text, wrong) in [("loud", "loud"), ("info,verbose", "verbose"), ("room_signaling=loud", "=loud")]
        {
            let error = level(text).unwrap_err();
            assert!(error.contains(wrong) && error.contains("off, error, warn"), "{error}");
        }
    }
}
