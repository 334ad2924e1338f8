//! The settings `log_format` and `log_level`.

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object on each line, for programs that collect logs.
    Json,
    /// Entries of systemd's journal, with their fields.
    Journald,
}

/// The lowest level that is logged, for the whole program or for parts of it.
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
                "{of:?} must be off, error, warn, info, debug or trace, or a part of the program with one of these, such as \
                 room_signaling::log=debug"
            )
        };
        // Targets would parse an unknown level as the name of a part of the program whose logs are all enabled.
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
    fn a_log_level_is_one_level_or_one_for_each_part() {
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
