//! A duration in a configuration.

use serde::Deserialize;
use std::time::Duration;

/// A duration in seconds, at most a year.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
pub struct Seconds(Duration);

impl Seconds {
    /// A longer duration is a mistake, and could overflow when it is added to the time of a clock.
    const MAX: Duration = Duration::from_hours(365 * 24);

    pub(crate) fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<f64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        let error = "must be a number of seconds, 0 or more and at most 31536000 (a year), such as 2.5";
        let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= Self::MAX);
        duration.map(Self).ok_or(error)
    }
}
