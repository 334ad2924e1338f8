//! Names on the wire: rooms, clients, media sessions, processes. Parsed once, valid from then on.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::{borrow::Borrow, fmt, sync::Arc};

/// The longest id, in bytes of UTF-8 (rule 2).
pub const MAX_ID_BYTES: usize = 128;

/// Why a text is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// No characters at all.
    #[error("an id must not be empty")]
    Empty,
    /// Over [`MAX_ID_BYTES`].
    #[error("an id is at most {MAX_ID_BYTES} bytes of UTF-8, this one has {0}")]
    TooLong(usize),
    /// A character that can't be seen, or that changes how the others are shown.
    #[error("an id must not contain U+{0:04X} (control, bidirectional, zero-width or line separator)")]
    Character(u32),
    /// White space at the start or the end.
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

/// Control characters, bidirectional formatting, zero-width and other invisible characters, line and paragraph
/// separators.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{180E}'
            | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
            | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against rule 2 and keeps it.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                check(text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }
            /// The text as it was given.
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
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::new(&*text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// The name of a room.
    RoomId
);
id!(
    /// The name of a client, unique in its room.
    ClientId
);
id!(
    /// The name of whom a token was made for, of no interest to other clients.
    UserId
);
id!(
    /// The name of one media session between two peers; the sender of the offer makes it.
    SessionId
);

/// The secret of one process (rule 7): at least 128 random bits as text, made once. Never sent to others, never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Instance(Arc<str>);

impl Instance {
    /// From random bytes of the caller's; written as lower-case hexadecimal.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex(&bytes).into())
    }
    /// From the wire. Anything of 1 to [`MAX_ID_BYTES`] bytes that is an id will do.
    pub fn new(text: &str) -> Result<Self, IdError> {
        check(text)?;
        Ok(Self(text.into()))
    }
    /// The secret itself, for the `register` message only.
    pub fn expose(&self) -> &str {
        &self.0
    }
    /// What others may see of it.
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

/// A truncated SHA-256 of an [`Instance`]: tells one process from its successor under the same id.
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
