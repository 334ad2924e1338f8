//! Writes the log into systemd's journal by its native protocol: a line for people with everything in it, and each
//! field by itself, so that `journalctl SIGNALING_ROOM=living_room` finds what happened there.

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
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// Where systemd listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
/// More of a value than that is cut off: an entry must fit into a datagram.
const MAX_VALUE: usize = 16 << 10;

/// Whether standard error goes into the journal, as systemd tells (systemd.exec(5), `JOURNAL_STREAM`).
pub(crate) fn has_stderr() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let metadata = stderr.and_then(|descriptor| File::from(descriptor).metadata());
    metadata.is_ok_and(|file| stream == format!("{}:{}", file.dev(), file.ino()))
}

/// The journal.
#[derive(Debug)]
pub(crate) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    pub(crate) fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // The server must not wait for the journal.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        let metadata = event.metadata();
        // There is nobody to tell that it can't be told.
        let _ = self.socket.send(&entry.into_bytes(*metadata.level(), metadata.target()));
    }
}

/// One line of the log.
#[derive(Debug, Default)]
struct Entry {
    message: String,
    /// The fields as they follow the message.
    line: String,
    fields: Vec<u8>,
}

impl Entry {
    fn into_bytes(self, level: Level, target: &str) -> Vec<u8> {
        // syslog(3).
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
            return;
        }
        // Writing into a String can't fail.
        let _ = write!(self.line, " {}={shown}", field.name());
        put(&mut self.fields, &format!("SIGNALING_{}", field.name().to_uppercase()), value);
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, &format!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.add(field, &value, &value);
    }
}

/// Adds a field. The length goes before the value, so that a line end in it means nothing.
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

    /// Takes an entry apart as the journal does.
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

    #[test]
    fn an_entry_has_a_line_and_fields_and_nothing_breaks_out_of_them() {
        let path = env::temp_dir().join(format!("room-journal-{}", std::process::id()));
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let client = "a\nMESSAGE=forged \"x";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            tracing::warn!(client, remote = %"192.0.2.1:5", sdp = "ü".repeat(MAX_VALUE), "joined");
        });
        let mut bytes = vec![0; 1 << 20];
        let length = socket.recv(&mut bytes).unwrap();
        let fields = parse(&bytes[..length]);
        assert_eq!((&*fields["PRIORITY"], &*fields["SYSLOG_IDENTIFIER"]), ("4", "room-signaling"));
        assert_eq!(fields["SIGNALING_CLIENT"], client);
        assert_eq!(fields["SIGNALING_SDP"].len(), MAX_VALUE);
        let line = "joined client=\"a\\nMESSAGE=forged \\\"x\" remote=192.0.2.1:5 sdp=\"ü";
        assert!(fields["MESSAGE"].starts_with(line), "{}", &fields["MESSAGE"][..200]);
    }
}
