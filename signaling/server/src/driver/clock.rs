//! The tasks of the driver that wait: for the Hub's next timeout, for passwords to verify, and for the end.

use super::Driver;
use room_protocol::{
    hub::{Input, Verdict},
    turn::WallClock,
};
use std::time::{Duration, Instant, SystemTime};
use tokio::time;

/// The time that clients have to read their close frames at the end, in addition to [`crate::Config::drain`].
const FAREWELL: Duration = Duration::from_secs(2);

impl Driver {
    /// Passes the time to the Hub whenever one of its timeouts is due. Never ends.
    pub(crate) async fn keep_time(&self) {
        loop {
            let next = self.hub.borrow().poll_timeout();
            self.alarm.set(next);
            let Some(next) = next else {
                self.earlier.notified().await;
                continue;
            };
            if time::timeout_at(next.into(), self.earlier.notified()).await.is_err() {
                self.hub.borrow_mut().set_wall_clock(wall_clock());
                self.hub.borrow_mut().handle_timeout(self.now());
                self.deliver(Vec::new());
            }
        }
    }

    /// Verifies the passwords that wait, one after the other. Never ends.
    pub(crate) async fn check_passwords(&self) {
        loop {
            let job = self.passwords.next().await;
            let id = job.conn;
            // A password whose client is gone counts as wrong, and costs nothing.
            let verdict = if self.registry.get(id).is_some() {
                self.passwords.check(job).await
            } else {
                Verdict::Refused(String::new())
            };
            self.handle(Input::Verified(id, verdict));
        }
    }

    /// Announces the shutdown, waits for [`crate::Config::drain`], then closes all connections. Ends early when none is
    /// left.
    pub(crate) async fn drain(&self) {
        let config = self.context.config();
        self.hub.borrow_mut().drain(config.retry_after);
        self.deliver(Vec::new());
        let _ = time::timeout(config.drain, self.registry.all_closed()).await;
        self.hub.borrow_mut().close_all();
        self.deliver(Vec::new());
        let _ = time::timeout(FAREWELL, self.registry.all_closed()).await;
        self.context.log().summarize();
    }
}

/// The time of day, to be read anew each time: it can be set at any time, on a robot long after boot.
pub(super) fn wall_clock() -> WallClock {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallClock { at: Instant::now(), unix }
}
