//! What the operator decides: the value that the server takes ([`Config`]), and how it comes about. Defaults, the
//! file, the environment and flags lie in layers of one shape ([`Settings`]), each above the one before; what is
//! wrong in them is told all at once.
//!
//! A section of the file is a struct in the module that it is about, with two functions: `overridden_by` lays another
//! one over it, `load` checks it and reads the files that it names.

mod document;
mod ice_url;
mod loader;
mod problem;
mod settings;

pub use crate::net::tls::{TlsFiles, TlsSettings};
pub use crate::turn::{SECRET_VARIABLE as TURN_SECRET_VARIABLE, TurnSettings, TurnUrl};
pub use crate::{http::admin::AdminSettings, limits::LimitSettings};
pub use ice_url::{IceUrl, StunUrl};
pub use loader::{FilePath, Located};
pub use problem::ConfigError;
pub use settings::{DefaultRoom, IceServerSettings, LogFormat, LogLevel, Seconds, Settings};

pub(crate) use loader::Loader;

use crate::{AdminToken, Limits, Tls, TrustedProxy, auth::Keys};
use document::Document;
use room_protocol::HubConfig;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// What the operator decides. Start from [`Config::default`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen (127.0.0.1:8765). Port 0 picks a free one. Looked at by [`crate::spawn_thread`] and the
    /// program; [`crate::Server`] takes a bound listener.
    pub listen: SocketAddr,
    /// The certificate to speak TLS with (none). With it, nobody is served without TLS.
    pub tls: Option<Tls>,
    /// What the Hub is told: heartbeat, time-outs, the default room, ICE servers, sizes of rooms.
    pub hub: HubConfig,
    /// What tokens are checked with (nothing). The Hub is told of each by its print.
    pub keys: Keys,
    /// Names, beside loopback and the listen address, that a `Host` header may have (none). Without port: any port.
    pub allow_hosts: Vec<String>,
    /// Origins such as `https://example.org` of pages, beside the server's own, that may connect (none). `*`: all.
    pub allow_origins: Vec<String>,
    /// What there may be at most, apart from what the Hub knows of.
    pub limits: Limits,
    /// Where `/metrics`, `/api`, `/healthz` and `/readyz` are answered, without a token (nowhere).
    pub metrics_listen: Option<SocketAddr>,
    /// What opens `/metrics` and `/api` where everybody connects (nothing).
    pub admin_token: Option<AdminToken>,
    /// Proxies whose `X-Forwarded-For` is believed (none).
    pub trusted_proxies: Vec<TrustedProxy>,
    /// How long members may go on talking after the shutdown was announced to them (1 s).
    pub drain: Duration,
    /// After how long clients are asked to come back after a shutdown (1 s).
    pub retry_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, room_protocol::wire::DEFAULT_PORT)),
            tls: None,
            hub: HubConfig::default(),
            keys: Keys::default(),
            allow_hosts: Vec::new(),
            allow_origins: Vec::new(),
            limits: Limits::default(),
            metrics_listen: None,
            admin_token: None,
            trusted_proxies: Vec::new(),
            drain: Duration::from_secs(1),
            retry_after: Duration::from_secs(1),
        }
    }
}

/// Where settings come from. Asked again when the server is told to reload.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// What the environment and flags say.
    pub above: Settings,
}

/// What the sources say.
#[derive(Debug)]
pub struct Loaded {
    /// For the server.
    pub config: Config,
    /// The files that [`Config::tls`] is from.
    pub tls_files: Option<TlsFiles>,
    /// How log lines look; `None`: as fits where they go.
    pub log_format: Option<LogFormat>,
    /// What is logged.
    pub log_level: LogLevel,
    /// What is allowed, and better not done.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// The keys that differ and that a running server can't change.
    pub fn differences_for_restart(&self, new: &Self) -> Vec<&'static str> {
        let keys = [
            ("listen", self.config.listen != new.config.listen),
            ("metrics_listen", self.config.metrics_listen != new.config.metrics_listen),
            ("log_format", self.log_format != new.log_format),
            ("log_level", self.log_level != new.log_level),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

impl Sources {
    /// What can be read of the settings, whatever is wrong beside it.
    pub fn settings(&self) -> Settings {
        let below = self.file.as_deref().and_then(|file| Document::read(file).ok());
        let below = below.map(|document| document.settings(&mut Vec::new())).unwrap_or_default();
        below.overridden_by(self.above.clone())
    }

    /// Reads the file and every file that it names. Blocks for that time. The error tells everything that is wrong.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut problems = Vec::new();
        let document = self.file.as_deref().map(Document::read).transpose()?;
        let below: Settings =
            document.as_ref().map(|document| document.settings(&mut problems)).unwrap_or_default();
        let mut loader = Loader::new(document.as_ref(), problems);
        let settings = below.overridden_by(self.above.clone());
        let log_format = settings.log_format;
        let log_level = settings.log_level.clone().unwrap_or_default();
        let (config, tls_files) = settings.load(&mut loader);
        let warnings = loader.finish()?;
        Ok(Loaded { config, tls_files, log_format, log_level, warnings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path, sync::atomic::AtomicUsize};

    /// A folder with a file `c.toml`, which goes with it.
    struct Folder(PathBuf);

    impl Folder {
        fn with(text: &str) -> Self {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("room-config-{}-{number}", std::process::id()));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("c.toml"), text).unwrap();
            Self(path)
        }

        fn load(&self, above: Settings) -> Result<Loaded, ConfigError> {
            Sources { file: Some(self.0.join("c.toml")), above }.load()
        }

        /// The problems, without the folder.
        fn problems(&self) -> Vec<String> {
            let error = self.load(Settings::default()).unwrap_err().to_string();
            let folder = format!("{}/", self.0.display());
            error.lines().map(|line| line.replace(&folder, "")).collect()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn problems(text: &str) -> Vec<String> {
        Folder::with(text).problems()
    }

    #[test]
    fn nothing_said_is_the_default() {
        let loaded = Sources::default().load().unwrap();
        assert_eq!(format!("{:?}", loaded.config), format!("{:?}", Config::default()));
        assert_eq!(Folder::with("").load(Settings::default()).unwrap().warnings, [""; 0]);
    }

    #[test]
    fn each_layer_lies_above_the_one_before() {
        let file = Folder::with("listen = '127.0.0.1:1'\ndrain_seconds = 3\n[limits]\nmax_connections = 7\n");
        let above = Settings { listen: Some("127.0.0.1:2".parse().unwrap()), ..Settings::default() };
        let config = file.load(above).unwrap().config;
        assert_eq!(config.listen.port(), 2);
        assert_eq!((config.drain, config.limits.max_connections), (Duration::from_secs(3), 7));
        assert_eq!(config.limits.max_queue, Config::default().limits.max_queue);
    }

    #[test]
    fn unknown_keys_are_told_with_their_line_and_the_nearest_known_one() {
        assert_eq!(
            problems("# first\nlisen = '127.0.0.1:1'\n[limits]\nmax_connection = 1\n[zebra]\n"),
            [
                "c.toml:2: lisen: unknown key `lisen`; did you mean `listen`?",
                "c.toml:4: limits.max_connection: unknown key `max_connection`; did you mean `max_connections`?",
                &format!("c.toml:5: zebra: unknown key `zebra`; known here: {}", known_keys().join(", ")),
            ]
        );
    }

    #[test]
    fn wrong_values_are_told_with_key_line_and_way_out() {
        let text = "default_room = ' x'\ndrain_seconds = -1\nlog_format = 'jsn'\nlog_level = 'info,,=x=y'\n\
                    stun = ['stun:a', 'http://b']\nlisten = 'here'\nallow_hosts = 'x'\n\
                    [[ice_servers]]\nurls = ['stun:fine']\n\
                    [[ice_servers]]\nurls = ['http://x']\n\
                    [[ice_servers]]\nurls = ['turn:x']\n\
                    [[ice_servers]]\nurl = ['turn:x']\n\
                    [limits]\nmax_connections = 0\n";
        let told = problems(text);
        for (line, key, words) in [
            (1, "default_room", "white space"),
            (2, "drain_seconds", "0 or more and at most"),
            (3, "log_format", "unknown word `jsn`; did you mean `json`?"),
            (4, "log_level", "off, error, warn, info, debug or trace"),
            (5, "stun", "stun:stun.example.org:3478"),
            (6, "listen", "invalid socket address"),
            (7, "allow_hosts", "expected a sequence"),
            (11, "ice_servers.urls", "none of stun, stuns, turn, turns"),
            (13, "ice_servers.urls", "needs username and credential"),
            (15, "ice_servers.url", "did you mean `urls`?"),
            (17, "limits.max_connections", "nonzero"),
        ] {
            let found = told.iter().find(|told| told.starts_with(&format!("c.toml:{line}: {key}: ")));
            assert!(found.is_some_and(|told| told.contains(words)), "{line} {key} {words} in {told:#?}");
        }
        assert_eq!(told.len(), 11, "{told:#?}");
    }

    /// Added to the time of a clock, such a number overflows.
    #[test]
    fn no_time_is_longer_than_a_year() {
        for key in ["limits.head_seconds", "limits.register_seconds", "drain_seconds", "tls.check_seconds"] {
            let told = problems(&format!("{key} = 1e19"));
            assert!(told.iter().any(|told| told.contains(key) && told.contains("a year")), "{key}: {told:?}");
        }
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let told = problems("listen = '127.0.0.1:1'\nlisten = 'twice'\nwhat is this\n");
        assert!(
            told[0].starts_with("c.toml:2: ") && told.last().unwrap().starts_with("c.toml:3: "),
            "{told:?}"
        );
        let absent = Sources { file: Some("/nowhere/c.toml".into()), ..Sources::default() };
        let told = absent.load().unwrap_err().to_string();
        assert!(told.starts_with("/nowhere/c.toml: can't read the configuration file: "), "{told}");
    }

    /// The keys that may stand at the top.
    fn known_keys() -> Vec<String> {
        let told = problems("zebra = 1");
        let (_, known) = told[0].split_once("known here: ").unwrap();
        known.split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn every_line_of_the_example_is_right_and_no_key_is_missing_there() {
        let example =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml")).unwrap();
        Folder::with(&example).load(Settings::default()).unwrap();
        let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
        let uncommented: Vec<&str> =
            example.lines().map(|line| if is_setting(&line) { &line[1..] } else { line }).collect();
        let text = uncommented.join("\n");
        let document = Document::of("c.toml", &text);
        let mut problems = Vec::new();
        document.settings(&mut problems);
        assert!(problems.is_empty(), "{problems:#?}");
        for key in known_keys() {
            let named = uncommented.iter().any(|line| {
                line.starts_with(&format!("{key} ="))
                    || [format!("[{key}]"), format!("[[{key}]]")].contains(&(*line).to_owned())
            });
            assert!(named, "{key} is missing in config.example.toml");
        }
    }
}
