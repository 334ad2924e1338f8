//! Makes time-limited TURN credentials (draft-uberti-behave-turn-rest-00, coturn's `use-auth-secret`). They are derived
//! from a secret that is shared with the TURN server, so that server needs no list of users.

use crate::wire::IceServer;
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// The shortest secret, in bytes. A shorter one could be found by trying, with one set of credentials to check against.
pub const MIN_SECRET_BYTES: usize = 16;

/// The secret that is shared with a TURN server (coturn's `static-auth-secret`).
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret(Arc<str>);

/// Why a text can't be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret has {0} bytes, but at least {MIN_SECRET_BYTES} are required: make one with `openssl rand -hex 32`"
)]
pub struct SecretTooShort(usize);

impl TurnSecret {
    /// Makes a secret of the text of a file or an environment variable, without the white space around it.
    pub fn new(text: &str) -> Result<Self, SecretTooShort> {
        match text.trim() {
            secret if secret.len() < MIN_SECRET_BYTES => Err(SecretTooShort(secret.len())),
            secret => Ok(Self(secret.into())),
        }
    }

    /// Credentials that are valid for new allocations until `expiry`, in seconds since 1970. `name` distinguishes the
    /// users of the TURN server in its log and its quotas.
    pub fn credentials(&self, expiry: u64, name: &str) -> TurnCredentials {
        let username = format!("{expiry}:{name}");
        let mac = Hmac::<Sha1>::new_from_slice(self.0.as_bytes()).expect("HMAC takes keys of any length");
        let credential = BASE64.encode(&mac.chain_update(&username).finalize().into_bytes());
        TurnCredentials { username, credential }
    }
}

impl fmt::Debug for TurnSecret {
    /// Omits the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSecret(…)")
    }
}

/// The credentials of a client for a TURN server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnCredentials {
    /// The expiry and the name, with a colon between them.
    pub username: String,
    /// HMAC-SHA1 of that, in base64.
    pub credential: String,
}

/// The TURN servers in `joined`, all of which share one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnConfig {
    /// `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// The secret from which credentials are derived.
    pub secret: TurnSecret,
    /// How long credentials are valid for new allocations. coturn does not end an allocation when its credentials expire.
    pub ttl: Duration,
}

impl TurnConfig {
    /// The entry of `ice_servers` for a client that joins at `unix`, a time since 1970.
    pub fn ice_server(&self, unix: Duration, name: &str) -> IceServer {
        let expiry = unix.saturating_add(self.ttl).as_secs();
        let TurnCredentials { username, credential } = self.secret.credentials(expiry, name);
        IceServer { urls: self.urls.clone(), username: Some(username), credential: Some(credential) }
    }
}

/// A reading of the wall clock. The Hub has no clock of its own: it adds the time that has passed since the reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallClock {
    /// When the clock was read.
    pub at: Instant,
    /// The time that it showed, since 1970.
    pub unix: Duration,
}

impl WallClock {
    /// The time that it shows at `now`, unless it was set meanwhile.
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
    fn credentials_equal_those_that_openssl_computes() {
        // printf 1700000000:bob | openssl dgst -sha1 -hmac "north by northwest" -binary | base64
        let secret = TurnSecret::new("north by northwest\n").unwrap();
        let made = secret.credentials(1_700_000_000, "bob");
        assert_eq!(made.username, "1700000000:bob");
        assert_eq!(made.credential, "nhHAlMEY/RG2zT+Kmgcaj124Zx4=");
    }

    #[test]
    fn a_short_secret_is_refused() {
        assert_eq!(TurnSecret::new(" fifteen bytes..\n"), Err(SecretTooShort(15)));
        assert!(TurnSecret::new("sixteen bytes...").is_ok());
    }

    #[test]
    fn debug_output_omits_the_secret() {
        let secret = TurnSecret::new("north by northwest").unwrap();
        let config = TurnConfig { urls: vec![], secret, ttl: Duration::ZERO };
        assert!(!format!("{config:?}").contains("north"));
    }

    #[test]
    fn the_wall_clock_is_known_before_and_after_its_reading() {
        let now = Instant::now();
        let clock = WallClock { at: now, unix: Duration::from_secs(100) };
        assert_eq!(clock.unix(now + Duration::from_secs(5)), Duration::from_secs(105));
        let late = WallClock { at: now + Duration::from_secs(5), unix: Duration::from_secs(100) };
        assert_eq!(late.unix(now), Duration::from_secs(95));
    }
}
