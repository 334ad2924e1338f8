//! What clients may do: what they bring to prove it, what was proven, and what the operator wants proven. The Hub
//! decides what follows; signatures and hashes are checked outside of it, by whoever answers
//! [`Output::Verify`](super::Output::Verify).

use crate::{
    id::{ClientId, IdError, RoomId, UserId},
    wire::Role,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fmt, sync::Arc, time::Instant};

/// A token or a password of a client's. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps a secret.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
    /// The secret itself, for checking only.
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

/// The hash of a password, in whatever form the one who checks passwords understands. Never shown.
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

/// What has to be checked for a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// A token of `register` or `join`.
    Token(Secret),
    /// The password of a room.
    Password {
        /// What the room wants.
        hash: PasswordHash,
        /// What the client says.
        password: Secret,
    },
}

/// What came of a [`Claim`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The token is good.
    Granted(Box<Grant>),
    /// The password is right.
    Passed,
    /// It is not, in words for the client; none are needed for a password.
    Refused(String),
    /// Too much else is being checked.
    Busy,
}

/// What a token grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is.
    pub user: UserId,
    /// The only id under which it may be used, if it names one.
    pub client_id: Option<ClientId>,
    /// Where it lets in.
    pub rooms: Vec<RoomPattern>,
    /// As what.
    pub roles: BTreeSet<Role>,
    /// For which servers it is made; empty: whichever.
    pub audience: Vec<String>,
    /// When it is over, leeway included.
    pub until: Instant,
    /// Who vouches for it.
    pub key: KeyPrint,
}

impl Grant {
    /// Whether it is of use for this client at all.
    pub(super) fn check_id(&self, client_id: &ClientId) -> Result<(), &'static str> {
        match &self.client_id {
            Some(pinned) if pinned != client_id => Err("the token is for another client id"),
            _ => Ok(()),
        }
    }

    /// Whether it lets this client in.
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

/// A grant that somebody has, and by which token: the same one again need not be checked again.
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

/// Tells one key from another, and from one that has the same name but other bytes: a digest of all that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyPrint(pub [u8; 16]);

impl fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPrint(…)")
    }
}

/// Whether clients need a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Auth {
    /// They don't, and those that they bring are not looked at.
    #[default]
    None,
    /// They do.
    Token {
        /// Whose tokens are good.
        keys: BTreeSet<KeyPrint>,
        /// What this server is called in tokens that are not for all servers.
        audience: Option<String>,
    },
}

impl Auth {
    /// Whether this server takes a grant, in words where it doesn't. Says nothing of its time.
    pub(super) fn check(&self, grant: &Grant) -> Result<(), &'static str> {
        let Self::Token { keys, audience } = self else { return Ok(()) };
        if !keys.contains(&grant.key) {
            return Err("the token's key is not in use any more");
        }
        // RFC 7519 section 4.1.3: who is not named in an audience must not take the token.
        match audience {
            Some(name) if !grant.audience.contains(name) => {
                Err("the token is not made for this server (aud)")
            }
            None if !grant.audience.is_empty() => Err("the token is made for other servers (aud)"),
            _ => Ok(()),
        }
    }
}

/// Rooms that share a beginning, or one room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoomPattern {
    /// This one.
    Exact(RoomId),
    /// All whose names begin so.
    Prefix(String),
}

impl RoomPattern {
    /// Reads `name` or `prefix*`; `*` alone is every room.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let Some(prefix) = text.strip_suffix('*') else { return RoomId::new(text).map(Self::Exact) };
        // What a name can't begin with, none would match.
        RoomId::new(format!("{prefix}x"))?;
        Ok(Self::Prefix(prefix.to_owned()))
    }

    /// Whether a room is one of them.
    pub fn matches(&self, room_id: &RoomId) -> bool {
        match self {
            Self::Exact(name) => name == room_id,
            Self::Prefix(prefix) => room_id.as_str().starts_with(prefix),
        }
    }

    /// How much of a name it says; the one room says more than any beginning.
    fn weight(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Prefix(prefix) => prefix.len(),
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

/// What holds for some rooms, whether anybody is in them or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRule {
    /// For which.
    pub rooms: RoomPattern,
    /// What everybody has to know who wants in. None: nothing, which opens some of the rooms that another rule closes.
    pub password: Option<PasswordHash>,
}

/// The password of a room: that of the rule that says most of its name.
pub(super) fn password_of<'a>(rules: &'a [RoomRule], room_id: &RoomId) -> Option<&'a PasswordHash> {
    let rules = rules.iter().filter(|rule| rule.rooms.matches(room_id));
    rules.max_by_key(|rule| rule.rooms.weight())?.password.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomId {
        RoomId::new(name).unwrap()
    }

    #[test]
    fn patterns_name_one_room_or_a_beginning() {
        for (pattern, name, matches) in [
            ("hall", "hall", true),
            ("hall", "hall 2", false),
            ("hall", "Hall", false),
            ("hall*", "hall", true),
            ("hall*", "hall 2", true),
            ("hall *", "hall 2", true),
            ("hall *", "hall", false),
            ("客*", "客厅", true),
            ("*", "anything", true),
        ] {
            let parsed = RoomPattern::new(pattern).unwrap();
            assert_eq!((parsed.matches(&room(name)), parsed.to_string()), (matches, pattern.to_owned()));
        }
        for bad in ["", " a", "a ", " *", "a\u{200B}*", &"x".repeat(129), &("x".repeat(128) + "*")] {
            assert!(RoomPattern::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_rule_that_says_most_of_a_name_counts() {
        let rule = |pattern: &str, hash: Option<&str>| RoomRule {
            rooms: RoomPattern::new(pattern).unwrap(),
            password: hash.map(PasswordHash::new),
        };
        let rules = [
            rule("lab*", Some("lab")),
            rule("lab open", None),
            rule("*", Some("all")),
            rule("lab 1*", Some("one")),
        ];
        let of = |name: &str| password_of(&rules, &room(name)).map(PasswordHash::expose);
        assert_eq!(
            [of("x"), of("lab"), of("lab 12"), of("lab open"), of("lab open 2")],
            [Some("all"), Some("lab"), Some("one"), None, Some("lab")]
        );
        assert_eq!(password_of(&rules[..1], &room("x")), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let claim = Claim::Password { hash: PasswordHash::new("the hash"), password: Secret::new("hush") };
        let shown = format!("{claim:?} {:?}", KeyPrint([7; 16]));
        assert!(!shown.contains("hush") && !shown.contains("the hash") && !shown.contains('7'), "{shown}");
    }
}
