//! The setting `base_path`: the path below which a proxy serves this server.

use serde::Deserialize;

/// A path such as `/rooms`, or "" for none.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct BasePath(String);

impl BasePath {
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<String> for BasePath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~');
        let is_segment = |segment: &str| !segment.is_empty() && segment.chars().all(is_plain);
        let is_path = text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment));
        if text.is_empty() || is_path {
            return Ok(Self(text));
        }
        Err(format!(
            "{text:?} must look like /rooms: each part begins with a slash and has only letters, digits, `-`, `_`, `.` and `~`"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_accepted() {
        for text in ["", "/rooms", "/a/b-c/d_e.f~1"] {
            assert_eq!(BasePath::try_from(text.to_owned()).unwrap().into_string(), text);
        }
        for text in ["/", "rooms", "/rooms/", "//rooms", "/ro oms", "/rooms?x", "/r\r\nx", "/\u{e4}"] {
            assert!(BasePath::try_from(text.to_owned()).unwrap_err().contains("/rooms"), "{text}");
        }
    }
}
