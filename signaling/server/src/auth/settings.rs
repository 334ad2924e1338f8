//! The sections `auth` and `rooms` of the configuration: tokens, denied users, passwords of rooms.

use super::{Algorithm, Keys, check_hash};
use crate::config::{FilePath, Loader, Located};
use room_protocol::{
    UserId,
    hub::{Auth, DenyList, PasswordHash, RoomPattern, RoomRule},
};
use serde::Deserialize;
use std::{collections::BTreeSet, fmt};

/// The section `auth`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// Whether clients need a token.
    pub mode: Option<Located<Mode>>,
    /// The name of this server in the audience of tokens.
    pub audience: Option<String>,
    /// The keys that verify tokens.
    pub keys: Option<Vec<KeySettings>>,
    /// Users whose tokens are refused.
    pub denied_users: Option<Located<Vec<String>>>,
    /// Ids (`jti`) of tokens that are refused.
    pub denied_tokens: Option<Vec<String>>,
}

/// Whether clients need a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They need none.
    None,
    /// They need one.
    Token,
}

/// An entry of `auth.keys`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySettings {
    /// The name of the key in tokens.
    pub kid: Located<String>,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its file.
    pub file: FilePath,
}

/// An entry of `rooms`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomSettings {
    /// A room, or a prefix followed by `*`.
    pub name: Located<String>,
    /// The hash of the password that these rooms require.
    pub password_hash: Option<Located<String>>,
}

impl fmt::Debug for RoomSettings {
    /// Omits the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomSettings").field("name", &self.name).finish_non_exhaustive()
    }
}

impl AuthSettings {
    /// The users and tokens that are denied. Problems are reported to the loader.
    pub(crate) fn denied(&self, loader: &mut Loader) -> DenyList {
        let mut users = BTreeSet::new();
        for user in self.denied_users.iter().flat_map(|users| &users.value) {
            match (UserId::new(user), &self.denied_users) {
                (Ok(user), _) => {
                    users.insert(user);
                }
                (Err(error), Some(list)) => {
                    loader.refuse(
                        "auth.denied_users",
                        list,
                        format!("{user:?} is no valid user name: {error}"),
                    );
                }
                (Err(_), None) => {}
            }
        }
        let denied = DenyList { users, tokens: self.denied_tokens.iter().flatten().cloned().collect() };
        let has_users = self.mode.as_ref().is_some_and(|mode| mode.value == Mode::Token);
        if denied != DenyList::default() && !has_users {
            loader.warn("auth: denied_users and denied_tokens have no effect, because clients need no token: set auth.mode to \"token\"");
        }
        denied
    }

    /// The requirement of tokens, and the keys that verify them. `None`: clients need no token. Problems are reported to the
    /// loader.
    pub(crate) fn load(self, loader: &mut Loader) -> Option<(Auth, Keys)> {
        let settings = self.keys.unwrap_or_default();
        let keys = load_keys(&settings, loader);
        match (&self.mode, settings.first()) {
            (None, Some(first)) => {
                let problem = "there are keys, but auth.mode is not set: set it to \"token\" or to \"none\"";
                loader.refuse("auth.keys", &first.kid, problem);
                return None;
            }
            (Some(mode), None) if mode.value == Mode::Token => {
                let problem =
                    "tokens can't be verified without a key: add [[auth.keys]] with kid, algorithm and file";
                loader.refuse("auth.mode", mode, problem);
                return None;
            }
            _ => {}
        }
        self.mode.filter(|mode| mode.value == Mode::Token)?;
        Some((Auth::Token { keys: keys.prints().collect(), audience: self.audience }, keys))
    }
}

fn load_keys(settings: &[KeySettings], loader: &mut Loader) -> Keys {
    let mut keys = Keys::default();
    let mut names = BTreeSet::new();
    for KeySettings { kid, algorithm, file } in settings {
        if kid.value.is_empty() || !names.insert(&kid.value) {
            loader.refuse("auth.keys.kid", kid, format!("{:?}: each key needs its own name", kid.value));
        }
        let content = match algorithm {
            Algorithm::HS256 => loader.read_secret("auth.keys.file", file),
            Algorithm::ES256 | Algorithm::EdDSA => loader.read("auth.keys.file", file),
        };
        let Some(content) = content else { continue };
        if let Err(error) = keys.add(&kid.value, *algorithm, &content) {
            loader.refuse_file("auth.keys.file", file, error);
        }
    }
    keys
}

/// The rules of rooms. Problems are reported to the loader.
pub(crate) fn load_rooms(settings: Vec<RoomSettings>, loader: &mut Loader) -> Vec<RoomRule> {
    let (mut names, mut rules) = (BTreeSet::new(), Vec::new());
    for RoomSettings { name, password_hash } in settings {
        let rooms = match RoomPattern::new(&name.value) {
            Ok(rooms) if names.insert(rooms.clone()) => rooms,
            Ok(_) => {
                loader.refuse("rooms.name", &name, format!("{:?} is listed twice", name.value));
                continue;
            }
            Err(error) => {
                loader.refuse(
                    "rooms.name",
                    &name,
                    format!("{:?} is no valid room name: {error}", name.value),
                );
                continue;
            }
        };
        if let Some(hash) = &password_hash
            && let Err(error) = check_hash(&hash.value)
        {
            loader.refuse("rooms.password_hash", hash, error.to_string());
        }
        let password = password_hash.map(|hash| PasswordHash::new(hash.value));
        rules.push(RoomRule { rooms, password });
    }
    rules
}
