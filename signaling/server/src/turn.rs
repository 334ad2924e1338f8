//! Which TURN servers clients are told of. Section `turn` of the configuration; the secret comes from a file, or from
//! the environment where that is customary.

use crate::config::{Config, FilePath, IceUrl, Loader, Located, Seconds};
use room_protocol::turn::{TurnConfig, TurnSecret};
use serde::Deserialize;
use std::time::Duration;

/// Where the secret is, beside `turn.secret_file`.
pub const SECRET_VARIABLE: &str = "ROOM_SIGNALING_TURN_SECRET";
/// An hour: clients get fresh credentials at half of that, and leaked ones are soon worth nothing. A session that has begun
/// goes on, because relays look at the time only when an allocation is made.
const TTL: Duration = Duration::from_hours(1);
/// The shortest time that leaves clients enough of it to connect.
const MIN_TTL: Duration = Duration::from_mins(1);

/// The section `turn` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TurnSettings {
    /// The servers.
    pub urls: Option<Located<Vec<TurnUrl>>>,
    /// The file with the secret that these servers know, too.
    pub secret_file: Option<FilePath>,
    /// The secret itself. Never in the file: configuration is shown around.
    #[serde(skip)]
    pub secret: Option<TurnSecret>,
    /// How long credentials begin new sessions.
    pub ttl_seconds: Option<Located<Seconds>>,
}

impl TurnSettings {
    /// These settings, and where others say something, those.
    pub(crate) fn overridden_by(self, above: Self) -> Self {
        // Either says where the secret is: what lies above goes before both.
        let below = if above.secret_file.is_some() { None } else { self.secret };
        Self {
            urls: above.urls.or(self.urls),
            secret_file: above.secret_file.or(self.secret_file),
            secret: above.secret.or(below),
            ttl_seconds: above.ttl_seconds.or(self.ttl_seconds),
        }
    }

    /// Puts what is said into the configuration. What is wrong is told to the loader.
    pub(crate) fn load(self, config: &mut Config, loader: &mut Loader<'_>) {
        let Self { urls, secret_file, secret, ttl_seconds } = self;
        let Some(urls) = urls.filter(|urls| !urls.value.is_empty()) else {
            if let Some(file) = secret_file {
                loader.refuse(
                    "turn.secret_file",
                    &file,
                    "turn.urls must name the servers that know this secret",
                );
            }
            return;
        };
        let ttl = ttl_seconds.as_ref().map_or(TTL, |ttl| ttl.value.duration());
        if let Some(located) = ttl_seconds.filter(|_| ttl < MIN_TTL) {
            let words = format!("must be at least {}: clients need time to connect", MIN_TTL.as_secs());
            loader.refuse("turn.ttl_seconds", &located, words);
        }
        let secret = match (secret, secret_file) {
            (Some(secret), _) => Some(secret),
            (None, Some(file)) => read_secret(&file, loader),
            (None, None) => {
                let words = format!(
                    "turn.secret_file must name the file with the secret that these servers know (static-auth-secret of \
                     coturn), or {SECRET_VARIABLE} be that secret. Servers with a fixed password go into ice_servers"
                );
                loader.refuse("turn.urls", &urls, words);
                None
            }
        };
        let urls = urls.value.into_iter().map(|url| url.0.into_string()).collect();
        config.hub.turn = secret.map(|secret| TurnConfig { urls, secret, ttl });
    }
}

fn read_secret(file: &FilePath, loader: &mut Loader<'_>) -> Option<TurnSecret> {
    let bytes = loader.read_secret("turn.secret_file", file)?;
    let secret = match String::from_utf8(bytes) {
        Ok(text) => TurnSecret::new(&text).map_err(|error| error.to_string()),
        Err(_) => Err("the secret must be text: make one with `openssl rand -hex 32`".to_owned()),
    };
    secret.map_err(|words| loader.refuse_file("turn.secret_file", file, words)).ok()
}

/// The URL of a TURN server. Takes the `turn://` that GStreamer writes as well (RFC 7065 has no slashes).
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct TurnUrl(IceUrl);

impl TryFrom<String> for TurnUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once(':').filter(|(scheme, _)| matches!(*scheme, "turn" | "turns"));
        let Some((scheme, rest)) = parts else {
            return Err(format!(
                "{text:?} is no URL of a TURN server: it must look like turn:turn.example.org:3478 or \
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
    use crate::config::{Settings, Sources};
    use std::fs;

    const SECRET: &str = "north by northwest";

    fn load(turn: TurnSettings) -> Result<Option<TurnConfig>, String> {
        let above = Settings { turn, ..Settings::default() };
        let loaded = Sources { file: None, above }.load();
        loaded.map(|loaded| loaded.config.hub.turn).map_err(|error| error.to_string())
    }

    fn of_text(text: &str) -> TurnSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_section_and_the_environment_make_a_turn_server() {
        let environment =
            TurnSettings { secret: Some(TurnSecret::new(SECRET).unwrap()), ..TurnSettings::default() };
        let file = of_text("urls = ['turn:t.example:3478', 'turns://t.example?transport=tcp']");
        let turn = load(file.overridden_by(environment.clone())).unwrap().unwrap();
        assert_eq!(turn.urls, ["turn:t.example:3478", "turns:t.example?transport=tcp"]);
        assert_eq!((turn.ttl, turn.secret), (Duration::from_hours(1), TurnSecret::new(SECRET).unwrap()));
        let turn = load(of_text("urls = ['turn:t']\nttl_seconds = 60").overridden_by(environment)).unwrap();
        assert_eq!(turn.unwrap().ttl, Duration::from_mins(1));
        assert_eq!(load(of_text("urls = []")).unwrap(), None);
    }

    #[test]
    fn the_secret_comes_out_of_its_file() {
        let path = std::env::temp_dir().join(format!("room-turn-{}", std::process::id()));
        let told = |secret: &[u8]| {
            fs::write(&path, secret).unwrap();
            load(of_text(&format!("urls = ['turn:t']\nsecret_file = {path:?}")))
        };
        let right = told(b"north by northwest\n");
        let (short, no_text) = (told(b"north"), told(&[0xff; 20]));
        fs::remove_file(&path).unwrap();
        assert_eq!(right.unwrap().unwrap().secret, TurnSecret::new(SECRET).unwrap());
        for (told, words) in [(short, "5 bytes"), (no_text, "must be text")] {
            let told = told.unwrap_err();
            assert!(told.contains("turn.secret_file") && told.contains(words), "{told}");
            assert!(!told.contains("north"), "{told}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_told() {
        for (text, words) in [
            ("urls = ['turn:t']", SECRET_VARIABLE),
            ("secret_file = 'x'", "turn.urls must name"),
            ("urls = ['turn:t']\nsecret_file = '/nowhere/secret'", "/nowhere/secret"),
            ("urls = ['turn:t']\nttl_seconds = 59", "at least 60"),
        ] {
            let told = load(of_text(text)).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        for url in ["stun:t", "turn:", "turn://", "t.example", "turn:user:password@t", "http://t"] {
            assert!(TurnUrl::try_from(url.to_owned()).is_err(), "{url}");
        }
    }
}
