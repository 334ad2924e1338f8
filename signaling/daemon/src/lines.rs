//! Writes lines of the log to standard error from a thread of its own: whoever reads them and stalls holds up neither
//! the server nor its clients. What finds no room meanwhile is left out, and counted.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait to be written.
const MOST_WAITING: usize = 4_096;
/// How long the end of the program waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to the thread, which starts with the first line. `None`: the system has no thread for it.
static WRITER: OnceLock<Option<Sender<Order>>> = OnceLock::new();
static WAITING: AtomicUsize = AtomicUsize::new(0);
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

enum Order {
    Write(Vec<u8>),
    /// Say when all before it is written.
    Tell(Sender<()>),
}

/// Takes lines for the thread. Blocks only where there is no thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lines;

fn start() -> Option<Sender<Order>> {
    let (orders, taken) = channel();
    thread::Builder::new().name("log".into()).spawn(move || write(taken)).ok()?;
    Some(orders)
}

fn write(orders: Receiver<Order>) {
    for order in orders {
        match order {
            Order::Write(line) => {
                // Where nobody reads any more, there is nobody to tell.
                let _ = io::stderr().write_all(&line);
                WAITING.fetch_sub(1, Relaxed);
            }
            Order::Tell(asker) => drop(asker.send(())),
        }
        match LEFT_OUT.swap(0, Relaxed) {
            0 => {}
            lines => warn!(lines, "the log is read too slowly: lines were left out"),
        }
    }
}

/// Waits for what was logged to be written, but not for ever.
pub(crate) fn flush() {
    let Some(Some(writer)) = WRITER.get() else { return };
    let (sender, told) = channel();
    // An error means that the thread is gone, or that the time is up.
    if writer.send(Order::Tell(sender)).is_ok() {
        let _ = told.recv_timeout(PATIENCE);
    }
}

impl Write for Lines {
    /// Each call is a line: the formatter makes it up before it writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(writer) = WRITER.get_or_init(start) else { return io::stderr().write(line) };
        if WAITING.fetch_add(1, Relaxed) < MOST_WAITING {
            // An error means that the thread is gone: there is nobody to tell.
            let _ = writer.send(Order::Write(line.to_vec()));
        } else {
            WAITING.fetch_sub(1, Relaxed);
            LEFT_OUT.fetch_add(1, Relaxed);
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
        *self
    }
}
