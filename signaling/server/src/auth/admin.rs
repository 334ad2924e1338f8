//! The token of operators. Section `admin` of the configuration.

use crate::config::{FilePath, Loader, Located};
use serde::Deserialize;
use std::fmt;
use subtle::ConstantTimeEq;

/// The shortest token that is taken: shorter ones can be guessed.
const MIN_TOKEN: usize = 16;

/// The token that opens `/metrics` and `/api`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl fmt::Debug for AdminToken {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminToken").finish_non_exhaustive()
    }
}

impl TryFrom<String> for AdminToken {
    type Error = &'static str;

    fn try_from(token: String) -> Result<Self, Self::Error> {
        if token.len() < MIN_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "must hold one token of 16 or more characters without spaces: `openssl rand -hex 32` makes one",
            );
        }
        Ok(Self(token))
    }
}

impl AdminToken {
    /// The `Authorization` header that shows it.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether an `Authorization` header shows it. How long that takes tells nothing but the token's length.
    pub(crate) fn is_shown_by(&self, authorization: &str) -> bool {
        let Some((scheme, token)) = authorization.split_once(' ') else { return false };
        scheme.eq_ignore_ascii_case("bearer") && bool::from(self.0.as_bytes().ct_eq(token.trim().as_bytes()))
    }
}

/// The text of a token, which no message repeats.
#[derive(Clone, Deserialize)]
pub struct TokenText(String);

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText")
    }
}

/// The section `admin` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// A file with the token that opens `/metrics` and `/api`.
    pub token_file: Option<FilePath>,
    /// The token itself, in a variable: people show configuration files around.
    pub token: Option<Located<TokenText>>,
}

impl AdminSettings {
    /// The token, if there is one. Problems are reported to the loader.
    pub(crate) fn load(self, loader: &mut Loader) -> Option<AdminToken> {
        const KEY: &str = "admin.token_file";
        // An empty variable counts as not set.
        if let Some(token) = self.token.filter(|token| !token.value.0.is_empty()) {
            if loader.is_of_file(&token) {
                let words = "a token must not be in this file: name its file in admin.token_file";
                loader.refuse("admin.token", &token, words);
            }
            let checked = AdminToken::try_from(token.value.0.clone());
            return checked.map_err(|words| loader.refuse("admin.token", &token, words)).ok();
        }
        let file = self.token_file?;
        let content = loader.read_secret(KEY, &file)?;
        let token = AdminToken::try_from(String::from_utf8_lossy(content.trim_ascii()).into_owned());
        token.map_err(|words| loader.refuse_file(KEY, &file, words)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_opens() {
        let token = AdminToken::try_from("0123456789abcdef".to_owned()).unwrap();
        for (header, opens) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer  0123456789abcdef ", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer ", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("", false),
        ] {
            assert_eq!(token.is_shown_by(header), opens, "{header:?}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn weak_tokens_are_refused() {
        for token in ["", "0123456789abcde", "two words of 20 chars", "0123456789abcde\u{e9}"] {
            assert!(AdminToken::try_from(token.to_owned()).unwrap_err().contains("openssl"), "{token}");
        }
    }
}
