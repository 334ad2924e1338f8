//! Writes lines of the log to standard error from a thread of its own: whoever reads them and stalls holds up neither
//! the server nor its clients. What finds no room meanwhile is left out, and counted.

use std::{
    io::{self, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const WAITING: usize = 4_096;
/// How long the end of the program waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whom [`flush`] asks.
static WRITER: OnceLock<SyncSender<Order>> = OnceLock::new();

enum Order {
    Write(Vec<u8>),
    /// Say when all before it is written.
    Tell(SyncSender<()>),
}

/// Takes lines for the thread. Never blocks.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    orders: SyncSender<Order>,
    left_out: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (orders, taken) = sync_channel(WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let counter = left_out.clone();
        thread::Builder::new().name("log".into()).spawn(move || write(taken, &counter))?;
        // Only the first is flushed; there is no second.
        let _ = WRITER.set(orders.clone());
        Ok(Self { orders, left_out })
    }
}

fn write(orders: Receiver<Order>, left_out: &AtomicU64) {
    for order in orders {
        match order {
            // Where nobody reads any more, there is nobody to tell.
            Order::Write(line) => drop(io::stderr().write_all(&line)),
            Order::Tell(asker) => drop(asker.try_send(())),
        }
        match left_out.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => warn!(lines, "the log is read too slowly: lines were left out"),
        }
    }
}

/// Waits for what was logged to be written, but not for ever.
pub(crate) fn flush() {
    let Some(writer) = WRITER.get() else { return };
    let deadline = Instant::now() + PATIENCE;
    let (sender, told) = sync_channel(1);
    let mut order = Order::Tell(sender);
    while let Err(TrySendError::Full(back)) = writer.try_send(order) {
        if Instant::now() > deadline {
            return;
        }
        order = back;
        thread::sleep(Duration::from_millis(5));
    }
    // An error means that the time is up.
    let _ = told.recv_timeout(deadline.saturating_duration_since(Instant::now()));
}

impl Write for Lines {
    /// Each call is a line: the formatter makes it up before it writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.orders.try_send(Order::Write(line.to_vec())).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
