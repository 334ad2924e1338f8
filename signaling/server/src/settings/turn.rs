//! The section `turn`: TURN servers with credentials that are made for each client. The secret is in a file or in an
//! environment variable. [`room_protocol::turn`] makes the credentials.

use super::IceUrl;
use crate::config::{FilePath, Loader, Located, Seconds};
use room_protocol::turn::{TurnConfig, TurnSecret};
use serde::Deserialize;
use std::{fmt, time::Duration};

/// The default lifetime of credentials. Clients renew them after half of it, and leaked ones soon expire. A session that has
/// begun continues, because TURN servers check the time only when an allocation is made.
const TTL: Duration = Duration::from_hours(1);
/// The shortest lifetime. Clients need some time to connect.
const MIN_TTL: Duration = Duration::from_mins(1);

/// The section `turn` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TurnSettings {
    /// The servers.
    pub urls: Option<Located<Vec<TurnUrl>>>,
    /// The file with the secret that is shared with these servers.
    pub secret_file: Option<FilePath>,
    /// The secret itself, only in an environment variable, because configuration files are often shared.
    pub secret: Option<Located<SecretText>>,
    /// How long credentials are valid for new sessions.
    pub ttl_seconds: Option<Located<Seconds>>,
}

/// The text of a secret. Its `Debug` output is redacted.
#[derive(Clone, Deserialize)]
pub struct SecretText(String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl TurnSettings {
    /// The TURN servers, if there are any. Problems are reported to the loader.
    pub(super) fn load(self, loader: &mut Loader) -> Option<TurnConfig> {
        let Self { urls, secret_file, secret, ttl_seconds } = self;
        // An empty variable counts as unset.
        let secret = secret.filter(|secret| !secret.value.0.is_empty());
        if let Some(secret) = &secret
            && loader.is_of_file(secret)
        {
            let problem =
                "the secret must not be in this file: set turn.secret_file to the file that contains it";
            loader.refuse("turn.secret", secret, problem);
        }
        let Some(urls) = urls.filter(|urls| !urls.value.is_empty()) else {
            if let Some(file) = secret_file {
                loader.refuse(
                    "turn.secret_file",
                    &file,
                    "turn.urls must list the servers that share this secret",
                );
            }
            return None;
        };
        let ttl = ttl_seconds.as_ref().map_or(TTL, |ttl| ttl.value.duration());
        if let Some(located) = ttl_seconds.filter(|_| ttl < MIN_TTL) {
            let problem = format!("must be at least {}: clients need time to connect", MIN_TTL.as_secs());
            loader.refuse("turn.ttl_seconds", &located, problem);
        }
        let secret = match (secret, secret_file) {
            (Some(secret), _) => {
                let text = TurnSecret::new(&secret.value.0);
                text.map_err(|error| loader.refuse("turn.secret", &secret, error.to_string())).ok()
            }
            (None, Some(file)) => read_secret(&file, loader),
            (None, None) => {
                let problem = "set turn.secret_file to the file with the secret that is shared with these servers (coturn's \
                     static-auth-secret), or set ROOM_SIGNALING_TURN_SECRET to the secret. Servers with a fixed password \
                     belong in ice_servers";
                loader.refuse("turn.urls", &urls, problem);
                None
            }
        };
        let urls = urls.value.into_iter().map(|url| url.0.into_string()).collect();
        secret.map(|secret| TurnConfig { urls, secret, ttl })
    }
}

fn read_secret(file: &FilePath, loader: &mut Loader) -> Option<TurnSecret> {
    let bytes = loader.read_secret("turn.secret_file", file)?;
    let secret = match String::from_utf8(bytes) {
        Ok(text) => TurnSecret::new(&text).map_err(|error| error.to_string()),
        Err(_) => Err("the secret must be text: make one with `openssl rand -hex 32`".to_owned()),
    };
    secret.map_err(|problem| loader.refuse_file("turn.secret_file", file, problem)).ok()
}

/// The URL of a TURN server. Also accepts `turn://`, as GStreamer writes it (RFC 7065 has no slashes).
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct TurnUrl(IceUrl);

impl TryFrom<String> for TurnUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once(':').filter(|(scheme, _)| matches!(*scheme, "turn" | "turns"));
        let Some((scheme, rest)) = parts else {
            return Err(format!(
                "{text:?} is not the URL of a TURN server: it must look like turn:turn.example.org:3478 or \
                 turns:turn.example.org?transport=tcp"
            ));
        };
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        IceUrl::try_from(format!("{scheme}:{rest}")).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, read};
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering},
    };

    const SECRET: &str = "north by northwest";

    fn load_with(text: &str, given: &[Given]) -> Result<Option<TurnConfig>, String> {
        #[derive(Default, Deserialize)]
        struct Sections {
            #[serde(default)]
            turn: TurnSettings,
        }
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("room-turn-{}-{number}.toml", std::process::id()));
        fs::write(&path, format!("[turn]\n{text}")).unwrap();
        let (sections, mut loader) = read::<Sections>(Some(&path), given).unwrap();
        fs::remove_file(path).unwrap();
        let turn = sections.turn.load(&mut loader);
        loader.finish().map(|_| turn).map_err(|error| error.to_string())
    }

    fn load(text: &str) -> Result<Option<TurnConfig>, String> {
        load_with(text, &[])
    }

    #[test]
    fn the_section_and_the_environment_make_a_turn_server() {
        let environment = [Given::flag("ROOM_SIGNALING_TURN_SECRET", "turn.secret", vec![SECRET.to_owned()])];
        let urls =
            "urls = ['turn:t.example:3478', 'turns://t.example?transport=tcp']\nsecret_file = '/nowhere'";
        let turn = load_with(urls, &environment).unwrap().unwrap();
        assert_eq!(turn.urls, ["turn:t.example:3478", "turns:t.example?transport=tcp"]);
        assert_eq!((turn.ttl, turn.secret), (Duration::from_hours(1), TurnSecret::new(SECRET).unwrap()));
        let turn = load_with("urls = ['turn:t']\nttl_seconds = 60", &environment).unwrap();
        assert_eq!(turn.unwrap().ttl, Duration::from_mins(1));
        assert_eq!(load("urls = []").unwrap(), None);
    }

    #[test]
    fn the_secret_is_read_from_its_file() {
        let path = std::env::temp_dir().join(format!("room-turn-{}", std::process::id()));
        let load_secret = |secret: &[u8]| {
            fs::write(&path, secret).unwrap();
            load(&format!("urls = ['turn:t']\nsecret_file = {path:?}"))
        };
        let right = load_secret(b"north by northwest\n");
        let (short, no_text) = (load_secret(b"north"), load_secret(&[0xff; 20]));
        fs::remove_file(&path).unwrap();
        assert_eq!(right.unwrap().unwrap().secret, TurnSecret::new(SECRET).unwrap());
        for (result, expected) in [(short, "5 bytes"), (no_text, "must be text")] {
            let error = result.unwrap_err();
            assert!(error.contains("turn.secret_file") && error.contains(expected), "{error}");
            assert!(!error.contains("north"), "{error}");
        }
    }

    #[test]
    fn missing_and_wrong_settings_are_reported() {
        for (text, expected) in [
            ("urls = ['turn:t']", "ROOM_SIGNALING_TURN_SECRET"),
            ("secret_file = 'x'", "turn.urls must list"),
            ("urls = ['turn:t']\nsecret_file = '/nowhere/secret'", "/nowhere/secret"),
            ("urls = ['turn:t']\nttl_seconds = 59", "at least 60"),
            ("urls = ['turn:t']\nsecret = 'north by northwest'", "must not be in this file"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        for url in ["stun:t", "turn:", "turn://", "t.example", "turn:user:password@t", "http://t"] {
            assert!(TurnUrl::try_from(url.to_owned()).is_err(), "{url}");
        }
    }
}
