//! Names on the wire: rooms, clients, users, media sessions, processes. Each is checked once, when it is created.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The longest id, in bytes of UTF-8 (rule 2).
pub const MAX_ID_BYTES: usize = 128;
/// The shortest [`Instance`], in bytes: 128 random bits, even where every byte is random.
pub const MIN_INSTANCE_BYTES: usize = 16;
/// Composing shortens text to a third at most (Hangul), so longer text can't become an id.
const MAX_DECOMPOSED_BYTES: usize = 3 * MAX_ID_BYTES;

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text has no characters.
    #[error("an id must not be empty")]
    Empty,
    /// The text is longer than [`MAX_ID_BYTES`].
    #[error("an id is at most {MAX_ID_BYTES} bytes of UTF-8, this one has {0}")]
    TooLong(usize),
    /// The secret of a process is shorter than [`MIN_INSTANCE_BYTES`].
    #[error(
        "an instance is a secret of at least {MIN_INSTANCE_BYTES} random bytes, this one has {0}: use 32 hexadecimal digits"
    )]
    TooShort(usize),
    /// The text holds a character that is invisible, or that changes how other characters are displayed.
    #[error("an id must not contain U+{0:04X} (control, bidirectional, zero-width or line separator)")]
    Character(u32),
    /// The text has white space at its start or end.
    #[error("an id must not begin or end with white space")]
    Space,
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong(text.len()));
    }
    if let Some(bad) = text.chars().find(|c| is_hidden(*c)) {
        return Err(IdError::Character(u32::from(bad)));
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err(IdError::Space);
    }
    Ok(())
}

/// Whether a character is a control character, bidirectional formatting, zero-width or otherwise invisible, or a line
/// or paragraph separator.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{180E}'
            | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
            | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// Text in Unicode's composed form (NFC), in which "é" is one code point. Keyboards and file systems disagree about the
/// form, and people can't see it.
pub(crate) fn composed(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || text.len() > MAX_DECOMPOSED_BYTES || is_nfc(text) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.nfc().collect())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, |$text:ident| $normalized:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against rule 2 and keeps it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let $text = text.as_ref();
                let text: &str = &$normalized;
                check(text)?;
                Ok(Self(text.into()))
            }
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(d)?;
                Self::new(&*text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// The name of a room, kept in NFC: two spellings that look the same are the same room.
    RoomId,
    |text| composed(text)
);
id!(
    /// The name of a client, unique in its room. Compared byte for byte.
    ClientId,
    |text| text
);
id!(
    /// The user for whom a token was issued. Other clients never see it.
    UserId,
    |text| text
);
id!(
    /// The name of one media session between two peers. The sender of the offer chooses it.
    SessionId,
    |text| text
);

/// The secret of one process (rule 7): at least 128 random bits as text, made once per process. It is never sent to
/// other clients and never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Instance(Arc<str>);

impl Instance {
    /// Makes a secret of random bytes, as lower-case hexadecimal.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes).into())
    }
    /// Checks the secret that a client sent: an id of at least [`MIN_INSTANCE_BYTES`]. A shorter secret could be found by
    /// trying, because others see its [`Epoch`].
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.len() < MIN_INSTANCE_BYTES {
            return Err(IdError::TooShort(text.len()));
        }
        Self::of_old_client(text)
    }
    /// Checks the secret of a client of protocol 0, which has no minimum length.
    pub(crate) fn of_old_client(text: &str) -> Result<Self, IdError> {
        check(text)?;
        Ok(Self(text.into()))
    }
    /// The secret itself, for the `register` message only.
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// The digest of it that other clients may see.
    pub fn epoch(&self) -> Epoch {
        let digest = Sha256::digest(self.0.as_bytes());
        Epoch(hex(&digest[..8]).into())
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instance(…)")
    }
}

/// A truncated SHA-256 of an [`Instance`]. It distinguishes a process from its successor under the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(Arc<str>);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
