//! The rights of clients: what a token grants ([`Grant`]: rooms, roles, an id), what an operator denies ([`DenyList`]),
//! and what the server requires ([`Auth`], [`RoomRule`]).
//!
//! Signatures and hashes are verified outside of the Hub, in answer to [`Output::Verify`](super::Output::Verify). The
//! effect of the verdict is decided in `verify.rs`.

use crate::{
    id::{ClientId, IdError, RoomId, UserId, composed},
    wire::Role,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

/// A token or a password of a client. Its `Debug` output is redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
    /// The secret itself, for verification only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The hash of a password, in the format of the verifier. Its `Debug` output is redacted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PasswordHash(Arc<str>);

impl PasswordHash {
    /// Keeps a hash.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
    /// The hash itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// Something to verify for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A token of `register` or `join`.
    Token(Secret),
    /// The password of a room.
    Password {
        /// The hash that the room requires.
        hash: PasswordHash,
        /// The password that the client sent.
        password: Secret,
    },
}

/// The result of verifying a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The token is valid.
    Granted(Box<Grant>),
    /// The password is correct.
    Passed,
    /// The claim is false. The text is for the client; a password needs none.
    Refused(String),
    /// The claim was not verified, because too many others are waiting.
    Busy,
}

/// What a token grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The user for whom it was issued.
    pub user: UserId,
    /// The id of the token, if it has one.
    pub id: Option<String>,
    /// The only client id that it may be used with, if it names one. That id is reserved for its user.
    pub client_id: Option<ClientId>,
    /// The rooms that it grants.
    pub rooms: Vec<RoomPattern>,
    /// The roles that it grants.
    pub roles: BTreeSet<Role>,
    /// The servers for which it was issued (`aud`). Empty: any.
    pub audience: Vec<String>,
    /// When it expires by the wall clock, as a time since 1970, leeway included.
    pub until: Duration,
    /// The key that signed it.
    pub key: KeyPrint,
}

impl Grant {
    /// Whether it may be used with this client id.
    pub(super) fn check_id(&self, client_id: &ClientId) -> Result<(), &'static str> {
        match &self.client_id {
            Some(pinned) if pinned != client_id => Err("the token is for another client id"),
            _ => Ok(()),
        }
    }

    /// Whether it grants this role in this room to this client.
    pub(super) fn check(
        &self,
        client_id: &ClientId,
        room_id: &RoomId,
        role: Role,
    ) -> Result<(), &'static str> {
        self.check_id(client_id)?;
        if !self.rooms.iter().any(|rooms| rooms.matches(room_id)) {
            return Err("the token is not for this room");
        }
        if !self.roles.contains(&role) {
            return Err("the token is not for this role");
        }
        Ok(())
    }
}

/// The grant of a client, with a digest of its token, so that the same token is not verified again.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) grant: Grant,
    token: [u8; 32],
}

impl Pass {
    pub(super) fn new(grant: Grant, token: &Secret) -> Self {
        Self { grant, token: token.digest() }
    }

    pub(super) fn is_of(&self, token: &Secret) -> bool {
        self.token == token.digest()
    }
}

/// The identity of a key: a digest of its name, its algorithm and its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPrint(pub [u8; 16]);

impl fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPrint(…)")
    }
}

/// Users and tokens that an operator denies, although the tokens are valid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DenyList {
    /// Users.
    pub users: BTreeSet<UserId>,
    /// Ids of tokens.
    pub tokens: BTreeSet<String>,
}

impl DenyList {
    /// Whether a grant is denied. The error is for the client.
    pub(super) fn check(&self, grant: &Grant) -> Result<(), &'static str> {
        if self.users.contains(&grant.user) {
            return Err("an operator has denied this user");
        }
        if grant.id.as_ref().is_some_and(|id| self.tokens.contains(id)) {
            return Err("an operator has denied this token");
        }
        Ok(())
    }
}

/// Whether clients need a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// No; tokens are ignored.
    #[default]
    None,
    /// Yes.
    Token {
        /// The keys whose tokens are valid.
        keys: BTreeSet<KeyPrint>,
        /// The name of this server in the audience of tokens.
        audience: Option<String>,
    },
}

impl Auth {
    /// Whether this server accepts a grant, apart from its time. The error is for the client.
    pub(super) fn check(&self, grant: &Grant) -> Result<(), &'static str> {
        let Self::Token { keys, audience } = self else { return Ok(()) };
        if !keys.contains(&grant.key) {
            return Err("the key of the token is no longer in use");
        }
        // RFC 7519 section 4.1.3: a server that the audience doesn't name must reject the token.
        match audience {
            Some(name) if !grant.audience.contains(name) => {
                Err("the token was not made for this server (aud)")
            }
            None if !grant.audience.is_empty() => Err("the token was made for other servers (aud)"),
            _ => Ok(()),
        }
    }
}

/// One room, or all rooms whose names share a prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoomPattern {
    /// This room.
    Exact(RoomId),
    /// All rooms whose names begin with this.
    Prefix(String),
}

impl RoomPattern {
    /// Parses `name` or `prefix*`; `*` alone is every room.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let Some(prefix) = text.strip_suffix('*') else { return RoomId::new(text).map(Self::Exact) };
        // A prefix with which no name can begin is an error.
        RoomId::new(format!("{prefix}x"))?;
        Ok(Self::Prefix(composed(prefix).into_owned()))
    }

    /// Whether the pattern includes a room.
    pub fn matches(&self, room_id: &RoomId) -> bool {
        match self {
            Self::Exact(name) => name == room_id,
            Self::Prefix(prefix) => room_id.as_str().starts_with(prefix),
        }
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// A rule for some rooms, whether they exist at the moment or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRule {
    /// The rooms.
    pub rooms: RoomPattern,
    /// The password of these rooms. `None`: they need none, even if a less specific rule has one.
    pub password: Option<PasswordHash>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomId {
        RoomId::new(name).unwrap()
    }

    #[test]
    fn a_pattern_is_a_room_or_a_prefix() {
        for (pattern, name, matches) in [
            ("hall", "hall", true),
            ("hall", "hall 2", false),
            ("hall", "Hall", false),
            ("hall*", "hall", true),
            ("hall*", "hall 2", true),
            ("hall *", "hall 2", true),
            ("hall *", "hall", false),
            ("客*", "客厅", true),
            ("cafe\u{301}", "caf\u{e9}", true),
            ("cafe\u{301}*", "caf\u{e9} 2", true),
            ("*", "anything", true),
        ] {
            let parsed = RoomPattern::new(pattern).unwrap();
            assert_eq!(parsed.matches(&room(name)), matches, "{pattern} {name}");
            assert_eq!(parsed.to_string(), composed(pattern));
        }
        for bad in ["", " a", "a ", " *", "a\u{200B}*", &"x".repeat(129), &("x".repeat(128) + "*")] {
            assert!(RoomPattern::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_has_no_secrets() {
        let claim = Claim::Password { hash: PasswordHash::new("the hash"), password: Secret::new("hush") };
        let shown = format!("{claim:?} {:?}", KeyPrint([7; 16]));
        assert!(!shown.contains("hush") && !shown.contains("the hash") && !shown.contains('7'), "{shown}");
    }
}
