//! Time-limited TURN credentials, as coturn takes them with `use-auth-secret` (draft-uberti-behave-turn-rest-00):
//! whoever shares the TURN server's secret makes them, and nobody has to tell that server of any user.

use crate::wire::IceServer;
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// The shortest secret: with a shorter one, anybody who got credentials could find it, and make more.
pub const MIN_SECRET_BYTES: usize = 16;

/// What a TURN server and we know (`static-auth-secret` of coturn).
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret(Arc<str>);

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret has {0} bytes, at least {MIN_SECRET_BYTES} are needed: make one with `openssl rand -hex 32`"
)]
pub struct SecretTooShort(usize);

impl TurnSecret {
    /// From the text of a file or an environment variable; white space around it is not part of it.
    pub fn new(text: &str) -> Result<Self, SecretTooShort> {
        match text.trim() {
            secret if secret.len() < MIN_SECRET_BYTES => Err(SecretTooShort(secret.len())),
            secret => Ok(Self(secret.into())),
        }
    }

    /// Credentials that begin no new session after `expiry`, in seconds since 1970. `name` tells users of the TURN
    /// server apart in its log and its quotas.
    pub fn credentials(&self, expiry: u64, name: &str) -> TurnCredentials {
        let username = format!("{expiry}:{name}");
        let mac = Hmac::<Sha1>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        let credential = BASE64.encode(&mac.chain_update(&username).finalize().into_bytes());
        TurnCredentials { username, credential }
    }
}

impl fmt::Debug for TurnSecret {
    /// Without the secret, for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSecret(…)")
    }
}

/// What a client shows to a TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnCredentials {
    /// The expiry and the name, with a colon between them.
    pub username: String,
    /// HMAC-SHA1 of that, in base64.
    pub credential: String,
}

/// The TURN servers that clients are told of in `joined`, all of which share one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnConfig {
    /// `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// What the credentials are made of.
    pub secret: TurnSecret,
    /// How long credentials begin new sessions. coturn lets a session that has begun go on for as long as it lasts.
    pub ttl: Duration,
}

impl TurnConfig {
    /// What `joined` carries, at a time since 1970.
    pub fn ice_server(&self, unix: Duration, name: &str) -> IceServer {
        let expiry = unix.saturating_add(self.ttl).as_secs();
        let TurnCredentials { username, credential } = self.secret.credentials(expiry, name);
        IceServer { urls: self.urls.clone(), username: Some(username), credential: Some(credential) }
    }
}

/// What the clock on the wall shows, for those who only know how time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock {
    /// When somebody looked at it.
    pub at: Instant,
    /// What it showed then, since 1970.
    pub unix: Duration,
}

impl WallClock {
    /// What it shows at another time, if nobody sets it meanwhile.
    pub fn unix(&self, now: Instant) -> Duration {
        match now.checked_duration_since(self.at) {
            Some(passed) => self.unix.saturating_add(passed),
            None => self.unix.saturating_sub(self.at.duration_since(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_that_openssl_makes() {
        // printf 1700000000:bob | openssl dgst -sha1 -hmac "north by northwest" -binary | base64
        let secret = TurnSecret::new("north by northwest\n").unwrap();
        let made = secret.credentials(1_700_000_000, "bob");
        assert_eq!(made.username, "1700000000:bob");
        assert_eq!(made.credential, "nhHAlMEY/RG2zT+Kmgcaj124Zx4=");
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        assert_eq!(TurnSecret::new(" fifteen bytes..\n"), Err(SecretTooShort(15)));
        assert!(TurnSecret::new("sixteen bytes...").is_ok());
    }

    #[test]
    fn nobody_reads_the_secret_in_a_log() {
        let secret = TurnSecret::new("north by northwest").unwrap();
        let config = TurnConfig { urls: vec![], secret, ttl: Duration::ZERO };
        assert!(!format!("{config:?}").contains("north"));
    }

    #[test]
    fn the_wall_clock_goes_both_ways() {
        let now = Instant::now();
        let clock = WallClock { at: now, unix: Duration::from_secs(100) };
        assert_eq!(clock.unix(now + Duration::from_secs(5)), Duration::from_secs(105));
        let late = WallClock { at: now + Duration::from_secs(5), unix: Duration::from_secs(100) };
        assert_eq!(late.unix(now), Duration::from_secs(95));
    }
}
