//! Writes the lines of the log to standard error from a separate thread, so that a stalled reader of the log delays neither
//! the server nor its clients. Lines that don't fit into the queue are discarded and counted.

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

/// The most lines that may wait to be written.
const MAX_QUEUED: usize = 4_096;
/// How long the program waits for its last lines when it ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The channel to the thread, which starts with the first line. `None`: the system could not start a thread.
static WRITER: OnceLock<Option<Sender<Command>>> = OnceLock::new();
static QUEUED: AtomicUsize = AtomicUsize::new(0);
static DISCARDED: AtomicU64 = AtomicU64::new(0);

enum Command {
    Write(Vec<u8>),
    /// Answer once all lines before it are written.
    Flush(Sender<()>),
}

/// Passes lines to the thread. It blocks only if there is no thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogWriter;

fn start() -> Option<Sender<Command>> {
    let (sender, commands) = channel();
    thread::Builder::new().name("log".into()).spawn(move || write(commands)).ok()?;
    Some(sender)
}

fn write(commands: Receiver<Command>) {
    for command in commands {
        match command {
            Command::Write(line) => {
                // If standard error is closed, there is nowhere to report it.
                let _ = io::stderr().write_all(&line);
                QUEUED.fetch_sub(1, Relaxed);
            }
            Command::Flush(waiting) => drop(waiting.send(())),
        }
        match DISCARDED.swap(0, Relaxed) {
            0 => {}
            lines => warn!(lines, "the reader of the log is too slow: lines were discarded"),
        }
    }
}

/// Waits until all lines are written, for at most [`FLUSH_TIMEOUT`].
pub(crate) fn flush() {
    let Some(Some(writer)) = WRITER.get() else { return };
    let (sender, answer) = channel();
    // An error means that the thread has ended, or that the time is up.
    if writer.send(Command::Flush(sender)).is_ok() {
        let _ = answer.recv_timeout(FLUSH_TIMEOUT);
    }
}

impl Write for LogWriter {
    /// Each call is one line, because the formatter writes complete lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(writer) = WRITER.get_or_init(start) else { return io::stderr().write(line) };
        if QUEUED.fetch_add(1, Relaxed) < MAX_QUEUED {
            // An error means that the thread has ended: there is nowhere to report it.
            let _ = writer.send(Command::Write(line.to_vec()));
        } else {
            QUEUED.fetch_sub(1, Relaxed);
            DISCARDED.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
