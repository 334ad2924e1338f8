//! The flags that override the configuration, and their environment variables. A flag is added to [`FLAGS`]; every setting
//! has an environment variable even without a flag.

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};
use room_signaling_server::{
    config::{Given, variables},
    settings::Sources,
};
use std::{ffi::OsString, path::PathBuf};

/// A flag that sets one setting.
struct Flag {
    /// The name without dashes.
    name: &'static str,
    /// Its environment variable. The variable that follows from the key works, too.
    variable: &'static str,
    /// The key in the configuration file.
    key: &'static str,
    /// The placeholder of the value in the help text.
    value: &'static str,
    help: &'static str,
    /// Whether it may occur several times.
    is_list: bool,
}

const fn flag(name: &'static str, variable: &'static str, key: &'static str, value: &'static str) -> Flag {
    Flag { name, variable, key, value, help: "", is_list: false }
}

impl Flag {
    const fn list(self) -> Self {
        Self { is_list: true, ..self }
    }

    const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }
}

const FLAGS: &[Flag] = &[
    flag("listen", "ROOM_SIGNALING_LISTEN", "listen", "IP:PORT").list().help(
        "An address to listen on; may be repeated. 0.0.0.0 or [::] means all addresses of the machine, port 0 any free \
         port [default: 127.0.0.1:8765]",
    ),
    flag("tls-certificate", "ROOM_SIGNALING_TLS_CERTIFICATE", "tls.certificate", "FILE")
        .help("The certificate chain for TLS, in PEM. With it, the server accepts https:// and wss:// only"),
    flag("tls-key", "ROOM_SIGNALING_TLS_KEY", "tls.key", "FILE").help("The private key of that certificate, in PEM"),
    flag("allow-host", "ROOM_SIGNALING_ALLOW_HOST", "allow_hosts", "NAME[:PORT]").list().help(
        "A host name by which browsers may reach this server, in addition to localhost and its addresses; may be repeated. \
         `*` allows any",
    ),
    flag("allow-origin", "ROOM_SIGNALING_ALLOW_ORIGIN", "allow_origins", "ORIGIN")
        .list()
        .help("An origin whose pages may connect, in addition to the server's own page; may be repeated. `*` allows any. Example: \
         https://viewer.example.org"),
    flag("trusted-proxy", "ROOM_SIGNALING_TRUSTED_PROXY", "trusted_proxies", "IP[/BITS]")
        .list()
        .help("A proxy, or a network of proxies, whose X-Forwarded-For is trusted; may be repeated. Example: 10.0.0.0/8"),
    flag("metrics-listen", "ROOM_SIGNALING_METRICS_LISTEN", "metrics_listen", "IP:PORT")
        .help("An address for operators only, where /metrics, /api, /healthz and /readyz need no token [default: none]"),
    flag("admin-token-file", "ROOM_SIGNALING_ADMIN_TOKEN_FILE", "admin.token_file", "FILE").help(
        "The file with the admin token, which opens /metrics and /api on the public addresses. Instead, the variable \
         ROOM_SIGNALING_ADMIN_TOKEN can contain the token itself",
    ),
    flag("stun", "ROOM_SIGNALING_STUN", "stun", "stun:HOST:PORT")
        .list()
        .help("A STUN server for clients; may be repeated"),
    flag("ice-servers", "ROOM_SIGNALING_ICE_SERVERS", "ice_servers", "JSON").help(
        "ICE servers for clients, in the form that RTCPeerConnection takes: \
         `[{\"urls\": [\"turn:turn.example.org\"], \"username\": \"u\", \"credential\": \"c\"}]`",
    ),
    flag("turn", "ROOM_SIGNALING_TURN", "turn.urls", "turn:HOST:PORT")
        .list()
        .help("A TURN server for clients, with time-limited credentials for each of them; may be repeated"),
    flag("turn-secret-file", "ROOM_SIGNALING_TURN_SECRET_FILE", "turn.secret_file", "FILE").help(
        "The file with the secret that is shared with the TURN servers (coturn's static-auth-secret). Instead, the variable \
         ROOM_SIGNALING_TURN_SECRET can contain the secret itself",
    ),
    flag("default-room", "ROOM_SIGNALING_DEFAULT_ROOM", "default_room", "ROOM").help(
        "The room of old clients that do not send `join`. If empty, they are in no room [default: room_default]",
    ),
    flag("max-connections", "ROOM_SIGNALING_MAX_CONNECTIONS", "limits.max_connections", "COUNT")
        .help("The maximum number of simultaneous connections [default: 20000]"),
    flag("drain-seconds", "ROOM_SIGNALING_DRAIN_SECONDS", "drain_seconds", "SECONDS").help(
        "How long members can still send messages after a shutdown was announced, in seconds [default: 1]",
    ),
    flag("log-format", "ROOM_SIGNALING_LOG_FORMAT", "log_format", "text|json|journald").help(
        "The format of log lines [default: text on a terminal, journald in a systemd service, otherwise json]",
    ),
    flag("log-level", "ROOM_SIGNALING_LOG", "log_level", "LEVEL").help(
        "The lowest level that is logged: off, error, warn, info, debug or trace, also for parts of the program: \
         `info,room_signaling::log=debug` [default: info]",
    ),
];

/// The heading of these flags in help texts.
const HEADING: &str = "Configuration";
/// The prefix of all variables.
const PREFIX: &str = "ROOM_SIGNALING_";
/// Variables without a flag, and the variable of the configuration file, which is no setting.
const VARIABLES: &[(&str, &str)] = &[
    (CONFIG_VARIABLE, ""),
    ("ROOM_SIGNALING_TURN_SECRET", "turn.secret"),
    ("ROOM_SIGNALING_ADMIN_TOKEN", "admin.token"),
];
const CONFIG_VARIABLE: &str = "ROOM_SIGNALING_CONFIG";

/// The sources of the configuration: a file, environment variables, which override it, and flags, which override both.
#[derive(Debug)]
pub(crate) struct ServeArgs {
    config: Option<PathBuf>,
    flags: Vec<Given>,
}

impl Args for ServeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .env(CONFIG_VARIABLE)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading(HEADING)
            .help(
                "The configuration file (TOML). Environment variables override it, and flags override both",
            );
        let flags = FLAGS.iter().map(|flag| {
            Arg::new(flag.name)
                .long(flag.name)
                .value_name(flag.value)
                .action(if flag.is_list { ArgAction::Append } else { ArgAction::Set })
                .allow_negative_numbers(true)
                .help_heading(HEADING)
                .help(format!("{} [env: {}]", flag.help, flag.variable))
        });
        command.arg(config).args(flags)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |flag: &Flag| {
            let texts = matches.get_many::<String>(flag.name)?.cloned().collect();
            Some(Given::flag(format!("--{}", flag.name), flag.key, texts))
        };
        Ok(Self {
            config: matches.get_one("config").cloned(),
            flags: FLAGS.iter().filter_map(given).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ServeArgs {
    /// The sources of the configuration.
    pub(crate) fn sources(self) -> Sources {
        self.sources_with(std::env::vars_os())
    }

    fn sources_with(self, environment: impl Iterator<Item = (OsString, OsString)>) -> Sources {
        let own = FLAGS.iter().map(|flag| (flag.variable, flag.key)).chain(VARIABLES.iter().copied());
        let mut given = variables(PREFIX, &own.collect::<Vec<_>>(), environment);
        given.extend(self.flags);
        Sources { file: self.config, given }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use room_signaling_server::{Config, config::ConfigError};
    use std::time::Duration;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn sources(arguments: &[&str], environment: &[(&str, &str)]) -> Sources {
        let arguments = ["room-signaling"].iter().chain(arguments);
        let environment = environment.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        Program::try_parse_from(arguments).unwrap().serve.sources_with(environment)
    }

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        sources(arguments, &[]).load().map(|loaded| loaded.config)
    }

    fn config_of(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        sources(&[], environment).load().map(|loaded| loaded.config)
    }

    #[test]
    fn flags_have_defaults() {
        let default = config(&[]).unwrap();
        assert_eq!(default.listen[0].to_string(), "127.0.0.1:8765");
        assert_eq!(default.drain, Duration::from_secs(1));
        assert_eq!(default.hub.default_room.unwrap().as_str(), "room_default");
        assert_eq!(config(&["--listen", "[::1]:0"]).unwrap().listen[0].to_string(), "[::1]:0");
    }

    #[test]
    fn ice_servers_come_from_both_flags() {
        let json = r#"[{"urls": ["turn:t.example"], "username": "u", "credential": "c"}]"#;
        let config =
            config(&["--ice-servers", json, "--stun", "a.example:3478,stun://b.example", "--stun", "stun:c"]);
        let servers = config.unwrap().hub.ice_servers;
        let urls: Vec<_> = servers.iter().map(|server| server.urls[0].as_str()).collect();
        assert_eq!(urls, ["turn:t.example", "stun:a.example:3478", "stun:b.example", "stun:c"]);
        assert_eq!(servers[0].credential.as_deref(), Some("c"));
    }

    #[test]
    fn an_error_names_its_flag() {
        for (arguments, flag) in [
            (["--drain-seconds", "-1"], "--drain-seconds"),
            (["--default-room", " x"], "--default-room"),
            (["--ice-servers", "{}"], "--ice-servers"),
            (["--ice-servers", r#"[{"urls": ["http://x"]}]"#], "--ice-servers"),
            (["--listen", "here"], "--listen"),
            (["--turn", "stun:t.example"], "--turn"),
            (["--turn", "turn:t.example"], "ROOM_SIGNALING_TURN_SECRET"),
        ] {
            let error = config(&arguments).unwrap_err().to_string();
            assert!(error.contains(flag), "{error}");
        }
    }

    #[test]
    fn an_empty_default_room_switches_it_off() {
        assert!(config(&["--default-room", ""]).unwrap().hub.default_room.is_none());
    }

    #[test]
    fn every_setting_has_a_variable_and_earlier_names_still_work() {
        let config = config_of(&[
            ("ROOM_SIGNALING_LISTEN", "127.0.0.1:1,[::1]:1"),
            ("ROOM_SIGNALING_LIMITS__MAX_ROOMS", "15"),
            ("ROOM_SIGNALING_MAX_CONNECTIONS", "16"),
            ("ROOM_SIGNALING_ALLOW_HOST", "a.example,b.example"),
            ("ROOM_SIGNALING_ALLOW_ORIGINS", "https://c.example"),
            ("ROOM_SIGNALING_DEFAULT_ROOM", ""),
            ("ROOM_SIGNALING_STUN", ""),
            ("ROOM_SIGNALING_ICE_SERVERS", r#"[{"urls": ["turn:t"], "username": "u", "credential": "c"}]"#),
            ("ROOM_SIGNALING_TURN__URLS", "turn:t.example"),
            ("ROOM_SIGNALING_TURN_SECRET", "north by northwest"),
            ("ROOM_SIGNALING_ADMIN__TOKEN", "0123456789abcdef"),
            ("ROOM_SIGNALING_ROOMS", r#"[{"name": "lab*"}]"#),
            ("ROOM_SIGNALING_METRICS_LISTEN", ""),
            ("ROOM_SIGNALING_CONFIG", "/is/no/setting"),
            ("OTHER", "x"),
        ]);
        let config = config.unwrap();
        assert_eq!((config.listen.len(), config.hub.max_rooms, config.limits.max_connections), (2, 15, 16));
        assert_eq!((config.allow_hosts.len(), config.allow_origins.len()), (2, 1));
        assert_eq!((config.hub.ice_servers.len(), config.hub.room_rules.len()), (1, 1));
        assert!(config.hub.turn.is_some() && config.admin_token.is_some());
        assert!(config.hub.default_room.is_none() && config.metrics_listen.is_none());
    }

    #[test]
    fn a_flag_overrides_a_variable() {
        let sources = sources(&["--max-connections", "2"], &[("ROOM_SIGNALING_MAX_CONNECTIONS", "3")]);
        assert_eq!(sources.load().unwrap().config.limits.max_connections, 2);
    }

    #[test]
    fn a_wrong_variable_is_an_error_and_an_unknown_one_a_warning() {
        for (name, text, expected) in [
            ("ROOM_SIGNALING_LIMITS__MAX_ROOMS", "many", "must be a whole number"),
            ("ROOM_SIGNALING_DRAIN_SECONDS", "never", "must be a number"),
            ("ROOM_SIGNALING_LISTEN", "here", "IP address with a port"),
            ("ROOM_SIGNALING_ADMIN_TOKEN", "short", "openssl rand"),
            ("ROOM_SIGNALING_LOG_FORMAT", "jsn", "did you mean `json`?"),
        ] {
            let reported = config_of(&[(name, text)]).unwrap_err().to_string();
            assert!(reported.starts_with(&format!("{name}: ")) && reported.contains(expected), "{reported}");
        }
        let loaded = sources(&[], &[("ROOM_SIGNALING_LIMITS__MAX_ROOM", "1")]).load().unwrap();
        let expected = "ROOM_SIGNALING_LIMITS__MAX_ROOM: there is no such setting; did you mean \
                     ROOM_SIGNALING_LIMITS__MAX_ROOMS?";
        assert_eq!(loaded.warnings, [expected]);
    }
}
