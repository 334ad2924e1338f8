//! The settings of the server, which a configuration file, the environment and flags have in common, and how they become
//! a [`Config`].
//!
//! To add a setting: add a field to [`Settings`], or to the section struct of its module (`limits.rs`, `auth/settings.rs`,
//! `net/tls.rs`, `turn.rs`), set the field of [`Config`] in `load`, describe it in `config.example.toml`, decide in
//! `weaker.rs` whether a reload can open something with it, and list it in [`Loaded::differences_for_restart`] if a reload
//! can't change it. The environment variable follows from the key; a flag is added to `flags.rs` of the daemon.

mod base_path;
mod ice;
mod ice_url;
mod listen;
mod log;
mod turn;

pub(crate) mod config;
pub(crate) mod weaker;

pub use crate::{limits::LimitSettings, net::tls::TlsFiles, net::tls::TlsSettings};
pub use base_path::BasePath;
pub use config::Config;
pub use ice::IceServerSettings;
pub use ice_url::{IceUrl, StunUrl};
pub use listen::Addresses;
pub use log::{LogFormat, LogLevel};
pub use turn::{TurnSettings, TurnUrl};

use crate::{
    auth::{AdminSettings, AuthSettings, RoomSettings, load_rooms},
    config::{self as layers, ConfigError, Given, Loader, Located, Seconds},
    net::proxies::TrustedProxy,
};
use room_protocol::{RoomId, wire::IceServer};
use serde::Deserialize;
use std::{net::SocketAddr, path::PathBuf};

/// The settings of all layers together. `None`: not set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The addresses to listen on.
    pub listen: Option<Located<Addresses>>,
    /// Names by which browsers may reach the server.
    pub allow_hosts: Option<Vec<String>>,
    /// Origins of pages that may connect.
    pub allow_origins: Option<Vec<String>>,
    /// Proxies whose statements about the origin of a connection are trusted.
    pub trusted_proxies: Option<Vec<TrustedProxy>>,
    /// Whether these proxies begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: Option<Located<bool>>,
    /// The path below which a proxy serves this server, if the proxy does not strip it.
    pub base_path: Option<BasePath>,
    /// The room of old clients that join none.
    pub default_room: Option<DefaultRoom>,
    /// STUN servers.
    pub stun: Option<Vec<StunUrl>>,
    /// ICE servers, in the form that RTCPeerConnection takes.
    pub ice_servers: Option<Vec<IceServerSettings>>,
    /// How long members can still send messages after a shutdown was announced.
    pub drain_seconds: Option<Seconds>,
    /// The format of log lines.
    pub log_format: Option<LogFormat>,
    /// The lowest level that is logged.
    pub log_level: Option<LogLevel>,
    /// The certificate and the key for TLS.
    pub tls: TlsSettings,
    /// The address where operators need no token.
    pub metrics_listen: Option<SocketAddr>,
    /// The admin token.
    pub admin: AdminSettings,
    /// Limits.
    pub limits: LimitSettings,
    /// TURN servers with time-limited credentials.
    pub turn: TurnSettings,
    /// Tokens, and the keys that verify them.
    pub auth: AuthSettings,
    /// Passwords of rooms.
    pub rooms: Option<Vec<RoomSettings>>,
}

impl Settings {
    /// The configuration. Problems are reported to the loader.
    fn load(self, loader: &mut Loader) -> (Config, Option<TlsFiles>) {
        let mut config = Config::default();
        if let Some(listen) = self.listen {
            config.listen = Addresses::load(listen, loader);
        }
        config.allow_hosts = self.allow_hosts.unwrap_or_default();
        config.allow_origins = self.allow_origins.unwrap_or_default();
        config.trusted_proxies = self.trusted_proxies.unwrap_or_default();
        config.proxy_protocol = self.proxy_protocol.as_ref().is_some_and(|on| on.value);
        if let Some(on) = self.proxy_protocol.filter(|on| on.value && config.trusted_proxies.is_empty()) {
            let problem = "requires trusted_proxies, because no other peer's header is trusted";
            loader.refuse("proxy_protocol", &on, problem);
        }
        config.base_path = self.base_path.map(BasePath::into_string).unwrap_or_default();
        config.drain = self.drain_seconds.map_or(config.drain, Seconds::duration);
        if let Some(room) = self.default_room {
            config.hub.default_room = room.0;
        }
        let stun = self.stun.into_iter().flatten();
        let stun =
            stun.map(|url| IceServer { urls: vec![url.into_string()], username: None, credential: None });
        let full = self.ice_servers.into_iter().flatten().map(|server| server.load(loader));
        config.hub.ice_servers = full.chain(stun).collect();
        config.metrics_listen = self.metrics_listen;
        config.admin_token = self.admin.load(loader);
        self.limits.load(&mut config.limits, &mut config.hub, loader);
        config.hub.turn = self.turn.load(loader);
        config.hub.denied = self.auth.denied(loader);
        if let Some((auth, keys)) = self.auth.load(loader) {
            (config.hub.auth, config.keys) = (auth, keys);
        }
        config.hub.room_rules = load_rooms(self.rooms.unwrap_or_default(), loader);
        let (tls, tls_files) = self.tls.load(loader);
        config.tls = tls;
        (config, tls_files)
    }
}

/// The room of old clients that join none. With "", they are in no room.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct DefaultRoom(Option<RoomId>);

impl TryFrom<String> for DefaultRoom {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" => Ok(Self(None)),
            name => RoomId::new(name)
                .map(|room| Self(Some(room)))
                .map_err(|error| format!("{name:?} is no valid room name: {error}")),
        }
    }
}

/// The sources of the settings. A reload reads them again.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// The settings that override the file, in increasing precedence: those of the environment, then flags.
    pub given: Vec<Given>,
}

/// The settings of all sources, read and checked.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration of the server.
    pub config: Config,
    /// The files of [`Config::tls`].
    pub tls_files: Option<TlsFiles>,
    /// The format of log lines. `None`: it depends on where they go.
    pub log_format: Option<LogFormat>,
    /// The lowest level that is logged.
    pub log_level: LogLevel,
    /// Warnings about settings that are valid but questionable.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// The keys whose new values take effect only after a restart.
    pub fn differences_for_restart(&self, new: &Self) -> Vec<&'static str> {
        let keys = [
            ("listen", self.config.listen != new.config.listen),
            ("tls", self.config.tls.is_some() != new.config.tls.is_some()),
            ("metrics_listen", self.config.metrics_listen != new.config.metrics_listen),
            ("log_format", self.log_format != new.log_format),
            ("log_level", self.log_level != new.log_level),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

impl Sources {
    /// The settings, without those that are wrong.
    pub fn settings(&self) -> Settings {
        let settings = |file| layers::read(file, &self.given).map(|(settings, _)| settings);
        settings(self.file.as_deref()).or_else(|_| settings(None)).unwrap_or_default()
    }

    /// Reads and checks all sources, and every file that they name. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// If anything is wrong. The error lists every problem.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let (settings, mut loader) = layers::read::<Settings>(self.file.as_deref(), &self.given)?;
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
    use std::{fs, path::Path, sync::atomic::AtomicUsize, time::Duration};

    /// A temporary folder with a file `c.toml`. Dropping it removes both.
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

        fn load(&self, given: &[Given]) -> Result<Loaded, ConfigError> {
            Sources { file: Some(self.0.join("c.toml")), given: given.to_vec() }.load()
        }

        /// The problems, without the folder.
        fn problems(&self) -> Vec<String> {
            let error = self.load(&[]).unwrap_err().to_string();
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
    fn no_settings_are_the_defaults() {
        let loaded = Sources::default().load().unwrap();
        assert_eq!(format!("{:?}", loaded.config), format!("{:?}", Config::default()));
        assert_eq!(Folder::with("").load(&[]).unwrap().warnings, [""; 0]);
    }

    #[test]
    fn each_layer_overrides_the_one_before() {
        let file = Folder::with("listen = '127.0.0.1:1'\ndrain_seconds = 3\n[limits]\nmax_connections = 7\n");
        let variable = Given::flag("ROOM_SIGNALING_LISTEN", "listen", vec!["127.0.0.1:3".into()]);
        let flag = Given::flag("--listen", "listen", vec!["127.0.0.1:2".into()]);
        let config = file.load(&[variable, flag]).unwrap().config;
        assert_eq!(config.listen[0].port(), 2);
        assert_eq!((config.drain, config.limits.max_connections), (Duration::from_secs(3), 7));
        assert_eq!(config.limits.max_queue, Config::default().limits.max_queue);
    }

    #[test]
    fn an_unknown_key_is_reported_with_its_line_and_the_nearest_known_key() {
        assert_eq!(
            problems("# first\nlisen = '127.0.0.1:1'\n[limits]\nmax_connection = 1\n[zebra]\n"),
            [
                "c.toml:2: lisen: unknown key `lisen`; did you mean `listen`?",
                "c.toml:4: limits.max_connection: unknown key `max_connection`; did you mean `max_connections`?",
                &format!(
                    "c.toml:5: zebra: unknown key `zebra`; allowed here: {}",
                    known_keys(None).join(", ")
                ),
            ]
        );
    }

    #[test]
    fn a_wrong_value_is_reported_with_its_key_its_line_and_the_fix() {
        let text = "default_room = ' x'\ndrain_seconds = -1\nlog_format = 'jsn'\nlog_level = 'info,,=x=y'\n\
                    stun = ['stun:a', 'http://b']\nlisten = 'here'\nallow_hosts = 'x'\n\
                    [[ice_servers]]\nurls = ['stun:fine']\n\
                    [[ice_servers]]\nurls = ['http://x']\n\
                    [[ice_servers]]\nurls = ['turn:x']\n\
                    [[ice_servers]]\nurl = ['turn:x']\n\
                    [limits]\nmax_connections = 0\n";
        let reported = problems(text);
        for (line, key, expected) in [
            (1, "default_room", "white space"),
            (2, "drain_seconds", "0 or more and at most"),
            (3, "log_format", "unknown value `jsn`; did you mean `json`?"),
            (4, "log_level", "off, error, warn, info, debug or trace"),
            (5, "stun", "stun:stun.example.org:3478"),
            (6, "listen", "must be an IP address with a port, such as"),
            (7, "allow_hosts", "must be a list"),
            (11, "ice_servers.urls", "none of stun, stuns, turn, turns"),
            (13, "ice_servers.urls", "needs username and credential"),
            (15, "ice_servers.url", "did you mean `urls`?"),
            (17, "limits.max_connections", "must be a whole number, 1 or more"),
        ] {
            let found =
                reported.iter().find(|reported| reported.starts_with(&format!("c.toml:{line}: {key}: ")));
            assert!(
                found.is_some_and(|reported| reported.contains(expected)),
                "{line} {key} {expected} in {reported:#?}"
            );
        }
        assert_eq!(reported.len(), 11, "{reported:#?}");
    }

    /// A longer time would overflow when it is added to the time of a clock.
    #[test]
    fn no_time_is_longer_than_a_year() {
        for key in ["limits.head_seconds", "limits.register_seconds", "drain_seconds", "tls.check_seconds"] {
            let reported = problems(&format!("{key} = 1e19"));
            assert!(
                reported.iter().any(|reported| reported.contains(key) && reported.contains("a year")),
                "{key}: {reported:?}"
            );
        }
    }

    #[test]
    fn a_syntax_error_is_reported_with_its_line() {
        let reported = problems("listen = '127.0.0.1:1'\nlisten = 'twice'\nwhat is this\n");
        assert!(
            reported[0].starts_with("c.toml:2: ") && reported.last().unwrap().starts_with("c.toml:3: "),
            "{reported:?}"
        );
        let absent = Sources { file: Some("/nowhere/c.toml".into()), ..Sources::default() };
        let reported = absent.load().unwrap_err().to_string();
        assert!(reported.starts_with("/nowhere/c.toml: can't read the configuration file: "), "{reported}");
    }

    /// The keys at the top level, or those of a section.
    fn known_keys(section: Option<&str>) -> Vec<String> {
        let section = section.map_or_else(String::new, |name| format!("[{name}]\n"));
        let reported = problems(&format!("{section}zebra = 1"));
        let (_, known) = reported[0].split_once("allowed here: ").unwrap();
        known.split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn every_line_of_the_example_is_valid_and_no_key_is_missing() {
        let example =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml")).unwrap();
        Folder::with(&example).load(&[]).unwrap();
        let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
        let uncommented: Vec<&str> =
            example.lines().map(|line| if is_setting(&line) { &line[1..] } else { line }).collect();
        let text = uncommented.join("\n");
        let reported = Folder::with(&text).load(&[]).map(|_| ()).map_err(|error| error.to_string()).err();
        // The files that the example names do not exist.
        let reported: Vec<&str> = reported
            .iter()
            .flat_map(|reported| reported.lines())
            .filter(|reported| !reported.contains("can't be read"))
            .collect();
        assert!(reported.is_empty(), "{reported:#?}");
        for key in known_keys(None).into_iter().chain(known_keys(Some("limits"))) {
            let named = uncommented.iter().any(|line| {
                line.starts_with(&format!("{key} ="))
                    || [format!("[{key}]"), format!("[[{key}]]")].contains(&(*line).to_owned())
            });
            assert!(named, "{key} is missing in config.example.toml");
        }
    }

    #[test]
    fn the_server_listens_on_one_address_or_on_several() {
        let listen = |text: &str| Folder::with(text).load(&[]).map(|loaded| loaded.config.listen.len());
        assert_eq!(listen("listen = '127.0.0.1:1'").unwrap(), 1);
        assert_eq!(listen("listen = ['127.0.0.1:1', '[::1]:1', '0.0.0.0:0', '0.0.0.0:0']").unwrap(), 4);
        for (text, expected) in [
            ("listen = []", "must name an address"),
            ("listen = ['127.0.0.1:1', '127.0.0.1:1']", "127.0.0.1:1 is listed twice"),
            ("listen = ['127.0.0.1:1', 'localhost']", "\"localhost\" must be an IP address with a port"),
            ("listen = 8765", "an address such as"),
        ] {
            let reported = problems(text);
            assert!(
                reported[0].starts_with("c.toml:1: listen: ") && reported[0].contains(expected),
                "{reported:?}"
            );
        }
        for texts in [vec!["127.0.0.1:1,[::1]:1"], vec!["127.0.0.1:1", "[::1]:1"]] {
            let texts = texts.into_iter().map(str::to_owned).collect();
            let flag = Given::flag("--listen", "listen", texts);
            assert_eq!(Folder::with("").load(&[flag]).unwrap().config.listen.len(), 2);
        }
    }

    #[test]
    fn every_problem_of_a_variable_or_a_flag_names_its_source() {
        let given = |name: &str, key: &str, text: &str| Given::flag(name, key, vec![text.into()]);
        let error = Folder::with("").load(&[
            given("ROOM_SIGNALING_LIMITS__MAX_ROOMS", "limits.max_rooms", "many"),
            given("ROOM_SIGNALING_LIMITS__MAX_QUEUE", "limits.max_queue", "5"),
            given("--tls-key", "tls.key", "/nowhere"),
            given("--listen", "listen", "here"),
        ]);
        let reported = error.unwrap_err().to_string();
        for line in [
            "ROOM_SIGNALING_LIMITS__MAX_ROOMS: limits.max_rooms: must be a whole number, 1 or more",
            "ROOM_SIGNALING_LIMITS__MAX_QUEUE: limits.max_queue: a queue of 5 bytes is too small",
            "--tls-key: tls.key: needs tls.certificate",
            "--listen: listen: \"here\" must be an IP address with a port",
        ] {
            assert!(reported.lines().any(|reported| reported.starts_with(line)), "{line} in {reported}");
        }
    }
}
