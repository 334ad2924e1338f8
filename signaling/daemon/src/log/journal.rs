//! Writes the log into systemd's journal by its native protocol. `MESSAGE` is the whole line for people, with all fields;
//! each field is also an entry of its own, so that `journalctl SIGNALING_ROOM=living_room` finds the events of that room.
//!
//! The crate tracing-journald (0.3) is no replacement: its `MESSAGE` lacks the fields, its socket blocks, so a busy journal
//! would stop the server, and it discards errors, so lost lines are not counted.

use std::{
    env,
    fmt::{self, Write as _},
    fs::File,
    io,
    os::{
        fd::AsFd,
        unix::{fs::MetadataExt, net::UnixDatagram},
    },
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// The socket on which the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// The longest value of a field, in bytes. Longer ones are cut off, because an entry must fit into a datagram.
const MAX_VALUE: usize = 16 << 10;

/// Whether standard error is connected to the journal (systemd.exec(5), `JOURNAL_STREAM`).
pub(super) fn has_stderr() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let metadata = stderr.and_then(|descriptor| File::from(descriptor).metadata());
    metadata.is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    /// The lines that the journal did not accept since the last report of such lines.
    lost: AtomicU64,
}

impl Journal {
    pub(super) fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // The server must not wait for the journal.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, lost: AtomicU64::new(0) })
    }

    fn send(&self, entry: JournalEntry, level: Level, target: &str) -> bool {
        self.socket.send(&entry.into_bytes(level, target)).is_ok()
    }

    /// Reports the lines that were lost. If the journal still accepts nothing, they are reported later.
    fn report_lost(&self) {
        let lost = self.lost.swap(0, Relaxed);
        if lost > 0 && !self.send(JournalEntry::of_lost(lost), Level::WARN, module_path!()) {
            self.lost.fetch_add(lost, Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.report_lost();
        let mut entry = JournalEntry::default();
        event.record(&mut entry);
        let metadata = event.metadata();
        if !self.send(entry, *metadata.level(), metadata.target()) {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

/// One line of the log.
#[derive(Debug, Default)]
struct JournalEntry {
    message: String,
    /// The fields as they follow the message.
    line: String,
    fields: Vec<u8>,
}

impl JournalEntry {
    fn of_lost(lines: u64) -> Self {
        let message = "the journal did not accept some lines of the log, so they are missing".to_owned();
        let mut entry = Self { message, ..Self::default() };
        let lines = lines.to_string();
        entry.add_field("lines", &lines, &lines);
        entry
    }

    fn into_bytes(self, level: Level, target: &str) -> Vec<u8> {
        // The priorities of syslog(3).
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        let mut bytes = self.fields;
        put(&mut bytes, "MESSAGE", &(self.message + &self.line));
        put(&mut bytes, "PRIORITY", priority);
        put(&mut bytes, "SYSLOG_IDENTIFIER", "room-signaling");
        put(&mut bytes, "TARGET", target);
        bytes
    }

    fn add(&mut self, field: &Field, value: &str, shown: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.add_field(field.name(), value, shown);
        }
    }

    fn add_field(&mut self, name: &str, value: &str, shown: &str) {
        // Writing into a String can't fail.
        let _ = write!(self.line, " {name}={shown}");
        put(&mut self.fields, &format!("SIGNALING_{}", name.to_uppercase()), value);
    }
}

impl Visit for JournalEntry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, &format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.add(field, &value, &value);
    }
}

/// Adds a field. Its length precedes the value, so a line end in the value has no effect.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(MAX_VALUE)];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'\n');
    bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tracing_subscriber::layer::SubscriberExt;

    /// A journal, and the socket that receives its entries.
    fn journal(name: &str) -> (Journal, UnixDatagram) {
        let path = env::temp_dir().join(format!("room-{name}-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        (journal, socket)
    }

    /// Parses an entry as the journal does.
    fn parse(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (name, rest) = (&bytes[..end], &bytes[end + 1..]);
            let (length, rest) = rest.split_first_chunk().unwrap();
            let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
            fields.insert(String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into());
            bytes = rest.strip_prefix(b"\n").unwrap();
        }
        fields
    }

    fn receive(socket: &UnixDatagram) -> BTreeMap<String, String> {
        let mut bytes = vec![0; 1 << 20];
        let length = socket.recv(&mut bytes).unwrap();
        parse(&bytes[..length])
    }

    #[test]
    fn an_entry_has_a_line_and_fields_and_no_value_breaks_out_of_its_field() {
        let (journal, socket) = journal("journal-entry");
        let client = "a\nMESSAGE=forged \"x";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            tracing::warn!(client, remote = %"192.0.2.1:5", sdp = "ü".repeat(MAX_VALUE), "joined");
        });
        let fields = receive(&socket);
        assert_eq!((&*fields["PRIORITY"], &*fields["SYSLOG_IDENTIFIER"]), ("4", "room-signaling"));
        assert_eq!(fields["SIGNALING_CLIENT"], client);
        assert_eq!(fields["SIGNALING_SDP"].len(), MAX_VALUE);
        let line = "joined client=\"a\\nMESSAGE=forged \\\"x\" remote=192.0.2.1:5 sdp=\"ü";
        assert!(fields["MESSAGE"].starts_with(line), "{}", &fields["MESSAGE"][..200]);
    }

    #[test]
    fn lines_that_the_journal_does_not_accept_are_counted_and_reported() {
        let (journal, socket) = journal("journal-lost");
        let filler = journal.socket.try_clone().unwrap();
        let mut queued = 0;
        while filler.send(b"").is_ok() {
            queued += 1;
        }
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            for _ in 0..3 {
                tracing::info!("lost");
            }
            (0..queued).for_each(|_| assert_eq!(socket.recv(&mut [0]).unwrap(), 0));
            tracing::info!("first");
            tracing::info!("second");
        });
        let report = receive(&socket);
        assert_eq!((&*report["SIGNALING_LINES"], &*report["PRIORITY"]), ("3", "4"));
        assert!(report["MESSAGE"].ends_with("missing lines=3"), "{report:?}");
        assert_eq!(
            [receive(&socket), receive(&socket)].map(|fields| fields["MESSAGE"].clone()),
            ["first", "second"]
        );
    }
}
