//! The key of a stream at both elements: its kind and its index, which are also the name of its pad.

use crate::codec::MediaKind;
use std::{fmt, str::FromStr};

/// Identifies a stream and its pad, such as the first video or the second audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamKey {
    pub(crate) kind: MediaKind,
    /// Counts from 0 for each kind.
    pub(crate) index: u32,
}

impl StreamKey {
    /// The name of the pad.
    pub(crate) fn pad_name(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for StreamKey {
    /// The name of the pad, such as `video_0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.kind.as_str(), self.index)
    }
}

/// The name is not that of a pad of these elements.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pad name of the form video_0 or audio_0")]
pub(crate) struct BadPadName;

impl FromStr for StreamKey {
    type Err = BadPadName;

    /// Parses the name of a pad. Because each pad has exactly one name, `video_00` and `video_+0` are errors.
    fn from_str(name: &str) -> Result<Self, BadPadName> {
        let (kind, index) = name.split_once('_').ok_or(BadPadName)?;
        let kind = [MediaKind::Video, MediaKind::Audio]
            .into_iter()
            .find(|k| k.as_str() == kind)
            .ok_or(BadPadName)?;
        let key = Self { kind, index: index.parse().map_err(|_| BadPadName)? };
        if key.pad_name() == name { Ok(key) } else { Err(BadPadName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pad_name_survives_a_round_trip() {
        for (kind, index, name) in [(MediaKind::Video, 0, "video_0"), (MediaKind::Audio, 3, "audio_3")] {
            let key = StreamKey { kind, index };
            assert_eq!(key.pad_name(), name);
            assert_eq!(name.parse(), Ok(key));
        }
    }

    #[test]
    fn other_names_are_refused() {
        for name in
            ["", "video", "video_", "video_x", "video_00", "video_+1", "video_4294967296", "src_0", "foo"]
        {
            assert_eq!(name.parse::<StreamKey>(), Err(BadPadName), "{name}");
        }
    }
}
