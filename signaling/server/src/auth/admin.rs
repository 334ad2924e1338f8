//! The admin token, which opens `/metrics` and `/api` to operators, and the section `admin` of the configuration.

use crate::config::{FilePath, Loader, Located};
use serde::Deserialize;
use std::fmt;
use subtle::ConstantTimeEq;

/// The shortest token, in characters. A shorter one could be guessed.
const MIN_TOKEN: usize = 16;

/// The token that opens `/metrics` and `/api`.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl fmt::Debug for AdminToken {
    /// Omits the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminToken").finish_non_exhaustive()
    }
}

impl TryFrom<String> for AdminToken {
    type Error = &'static str;

    fn try_from(token: String) -> Result<Self, Self::Error> {
        if token.len() < MIN_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "must be one token of 16 or more characters without spaces: `openssl rand -hex 32` makes one",
            );
        }
        Ok(Self(token))
    }
}

impl AdminToken {
    /// The `Authorization` header that carries the token.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether an `Authorization` header carries the token. The time of the comparison reveals only the token's length.
    pub(crate) fn is_in(&self, authorization: &str) -> bool {
        let Some((scheme, token)) = authorization.split_once(' ') else { return false };
        scheme.eq_ignore_ascii_case("bearer") && bool::from(self.0.as_bytes().ct_eq(token.trim().as_bytes()))
    }
}

/// The text of a token. Its `Debug` output is redacted.
#[derive(Clone, Deserialize)]
pub struct TokenText(String);

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

/// The section `admin` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// The file that contains the token.
    pub token_file: Option<FilePath>,
    /// The token itself, only in an environment variable, because configuration files are often shared.
    pub token: Option<Located<TokenText>>,
}

impl AdminSettings {
    /// The token, if there is one. Problems are reported to the loader.
    pub(crate) fn load(self, loader: &mut Loader) -> Option<AdminToken> {
        const KEY: &str = "admin.token_file";
        // An empty variable counts as unset.
        if let Some(token) = self.token.filter(|token| !token.value.0.is_empty()) {
            if loader.is_of_file(&token) {
                let problem =
                    "the token must not be in this file: set admin.token_file to the file that contains it";
                loader.refuse("admin.token", &token, problem);
            }
            let checked = AdminToken::try_from(token.value.0.clone());
            return checked.map_err(|problem| loader.refuse("admin.token", &token, problem)).ok();
        }
        let file = self.token_file?;
        let content = loader.read_secret(KEY, &file)?;
        let token = AdminToken::try_from(String::from_utf8_lossy(content.trim_ascii()).into_owned());
        token.map_err(|problem| loader.refuse_file(KEY, &file, problem)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_is_accepted() {
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
            assert_eq!(token.is_in(header), opens, "{header:?}");
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
