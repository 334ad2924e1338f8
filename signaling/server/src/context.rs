//! The settings in force, the metrics, and the log, which every part of the server may use.

use crate::{
    Config,
    log::{self, Log},
    metrics::Metrics,
};
use std::{cell::RefCell, rc::Rc, time::Duration};
use tokio::time;

/// The interval at which the lag of the server's thread is measured.
const LAG_EVERY: Duration = Duration::from_millis(250);

/// The settings in force, the metrics, and the log of one server.
#[derive(Debug)]
pub(crate) struct ServerContext {
    config: RefCell<Rc<Config>>,
    metrics: Metrics,
    log: Log,
}

impl ServerContext {
    pub(crate) fn new(config: Config) -> Self {
        Self { config: RefCell::new(Rc::new(config)), metrics: Metrics::new(), log: Log::new() }
    }

    /// The settings in force. A reload replaces them, so do not keep the result across an `await`.
    pub(crate) fn config(&self) -> Rc<Config> {
        self.config.borrow().clone()
    }

    /// Replaces the settings for everything that reads them from now on.
    pub(crate) fn replace_config(&self, config: Config) {
        *self.config.borrow_mut() = Rc::new(config);
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Logs how many lines were omitted, at intervals. Never ends.
    pub(crate) async fn summarize_log(&self) {
        loop {
            time::sleep(log::SUMMARY_EVERY).await;
            self.log.summarize();
        }
    }

    /// Measures how late tasks run. Never ends.
    pub(crate) async fn measure_lag(&self) {
        loop {
            let due = time::Instant::now() + LAG_EVERY;
            time::sleep_until(due).await;
            self.metrics.lag.observe(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
}
