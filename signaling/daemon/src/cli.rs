//! The command line. Each flag may be an environment variable as well.

use crate::{
    operate::{self, CloseArgs, DenyArgs, KickArgs},
    users::{self, TokenArgs},
};
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use room_signaling_server::{
    config::{Given, variables},
    settings::Sources,
};
use std::{ffi::OsString, path::PathBuf};

const EXAMPLES: &str = "\
Examples:
  room-signaling
      Serve on this machine alone: WebSockets and the viewer page on http://127.0.0.1:8765/.

  room-signaling serve --listen 0.0.0.0:8765 --allow-host robot.example
      Serve the network, where this machine is also known as robot.example.

  room-signaling --listen 0.0.0.0:8765 --allow-host robot.example --tls-certificate full.pem --tls-key key.pem
      The same by https:// and wss:// alone.

  room-signaling --stun stun:stun.example.org:3478 --allow-origin https://viewer.example.org
      Tell clients of a STUN server, and let a page that comes from elsewhere connect.

  ROOM_SIGNALING_LISTEN=127.0.0.1:0 room-signaling --log-format json
      Any free port; the first line of the log says which.

  room-signaling check-config /etc/room-signaling/config.toml
      Whether it would serve with that file, and what is wrong with it otherwise.";

/// The signaling server of rooms: who is there, and who says what to whom. No media passes through it.
#[derive(Debug, Parser)]
#[command(name = "room-signaling", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server (what happens without a command, too)
    #[command(after_help = EXAMPLES)]
    Serve(Later<ServeArgs>),
    /// Tell everything for which `serve` would refuse to start, unreadable files included
    CheckConfig(Later<CheckArgs>),
    /// Ask the server that runs with this configuration for /healthz, and fail if it isn't well
    Healthcheck(Later<ServeArgs>),
    /// Print the ICE servers that clients get when they join, with fresh TURN credentials
    TurnCredentials(Later<TurnCredentialsArgs>),
    /// Ask the server that runs with this configuration who is in which room
    Rooms(Later<RoomsArgs>),
    /// Remove a member from its room, on the server that runs with this configuration
    #[command(after_help = operate::KICK_EXAMPLES)]
    Kick(Later<KickArgs>),
    /// Remove all members from a room
    #[command(after_help = operate::CLOSE_EXAMPLES)]
    CloseRoom(Later<CloseArgs>),
    /// Refuse a user, or a token, and close its connections
    #[command(after_help = operate::DENY_EXAMPLES)]
    Deny(Later<DenyArgs>),
    /// Accept a user or a token again that `deny` refused
    Allow(Later<DenyArgs>),
    /// Print the users and tokens that are denied
    Denied(Later<ServeArgs>),
    /// Make a token for a server with users, and print it
    #[command(after_help = users::TOKEN_EXAMPLES)]
    Token(Later<TokenArgs>),
    /// Read a password from the terminal, or from standard input, and print its hash for [[rooms]]
    #[command(after_help = users::HASH_EXAMPLES)]
    HashPassword,
    /// Write the page of the manual and the completions of shells into a folder, for packages
    #[command(hide = true)]
    Generate {
        /// It must be there
        folder: PathBuf,
    },
}

impl Cli {
    /// What to do; without a word, serve.
    pub(crate) fn what_to_do(self) -> Command {
        self.command.unwrap_or(Command::Serve(Later(self.serve)))
    }
}

/// The arguments of a command, made when it is the one that was given: most take all flags of `serve`, and to make
/// those for each command would take a tenth of the time of a start.
#[derive(Debug)]
pub(crate) struct Later<A>(pub(crate) A);

impl<A: Args> Args for Later<A> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(A::augment_args)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command.defer(A::augment_args_for_update)
    }
}

impl<A: FromArgMatches> FromArgMatches for Later<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        A::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file to check, instead of the one that --config names
    file: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TurnCredentialsArgs {
    /// What the TURN server's log calls the user [default: random, as for clients]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RoomsArgs {
    /// As the server sends it, instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

/// A flag of the commands that read the configuration, and the setting that it is.
struct Flag {
    /// The flag without its dashes.
    name: &'static str,
    /// The variable with a name of its own. Each setting has the one that is made of its key, too.
    variable: &'static str,
    /// The key in the configuration file.
    key: &'static str,
    value: &'static str,
    help: &'static str,
    /// Whether it may be given several times.
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
        "An address to listen on; 0.0.0.0 or [::] for all addresses of the machine, port 0 for any free one \
         [default: 127.0.0.1:8765]",
    ),
    flag("tls-certificate", "ROOM_SIGNALING_TLS_CERTIFICATE", "tls.certificate", "FILE")
        .help("The certificate chain (PEM) for TLS: with it, the server speaks https:// and wss:// only"),
    flag("tls-key", "ROOM_SIGNALING_TLS_KEY", "tls.key", "FILE").help("The key (PEM) of that certificate"),
    flag("allow-host", "ROOM_SIGNALING_ALLOW_HOST", "allow_hosts", "NAME[:PORT]").list().help(
        "A name by which browsers may reach this server, besides localhost and its addresses; `*` for any",
    ),
    flag("allow-origin", "ROOM_SIGNALING_ALLOW_ORIGIN", "allow_origins", "ORIGIN")
        .list()
        .help("An origin whose pages may connect, besides the server's own page; `*` for any"),
    flag("trusted-proxy", "ROOM_SIGNALING_TRUSTED_PROXY", "trusted_proxies", "IP[/BITS]")
        .list()
        .help("A proxy, or a network of proxies, whose X-Forwarded-For is trusted"),
    flag("metrics-listen", "ROOM_SIGNALING_METRICS_LISTEN", "metrics_listen", "IP:PORT")
        .help("An address for operators, where /metrics, /api, /healthz and /readyz need no token"),
    flag("admin-token-file", "ROOM_SIGNALING_ADMIN_TOKEN_FILE", "admin.token_file", "FILE").help(
        "The file with the token that opens /metrics and /api on the public addresses; the variable \
         ROOM_SIGNALING_ADMIN_TOKEN may hold the token itself",
    ),
    flag("stun", "ROOM_SIGNALING_STUN", "stun", "stun:HOST:PORT")
        .list()
        .help("A STUN server that clients learn of when they join"),
    flag("ice-servers", "ROOM_SIGNALING_ICE_SERVERS", "ice_servers", "JSON").help(
        "ICE servers that clients learn of when they join, in the form that RTCPeerConnection takes: \
         `[{\"urls\": [\"turn:turn.example.org\"], \"username\": \"u\", \"credential\": \"c\"}]`",
    ),
    flag("turn", "ROOM_SIGNALING_TURN", "turn.urls", "turn:HOST:PORT")
        .list()
        .help("A TURN server that clients learn of when they join, with credentials made for each of them"),
    flag("turn-secret-file", "ROOM_SIGNALING_TURN_SECRET_FILE", "turn.secret_file", "FILE").help(
        "The file with the secret that is shared with the TURN servers (static-auth-secret of coturn); the \
         variable ROOM_SIGNALING_TURN_SECRET may hold the secret itself",
    ),
    flag("default-room", "ROOM_SIGNALING_DEFAULT_ROOM", "default_room", "ROOM").help(
        "The room of old clients, which join none by themselves; empty: they are in no room \
         [default: room_default]",
    ),
    flag("max-connections", "ROOM_SIGNALING_MAX_CONNECTIONS", "limits.max_connections", "COUNT")
        .help("Connections at a time [default: 20000]"),
    flag("drain-seconds", "ROOM_SIGNALING_DRAIN_SECONDS", "drain_seconds", "SECONDS").help(
        "How long members can still send messages after the shutdown was announced to them [default: 1]",
    ),
    flag("log-format", "ROOM_SIGNALING_LOG_FORMAT", "log_format", "text|json|journald").help(
        "The form of log lines [default: text on a terminal, journald in a systemd service, otherwise json]",
    ),
    flag("log-level", "ROOM_SIGNALING_LOG", "log_level", "LEVEL").help(
        "What is logged: off, error, warn, info, debug or trace, also for parts of the program: \
         `info,room_signaling::log=debug` [default: info]",
    ),
];

/// What the names of all variables begin with.
const PREFIX: &str = "ROOM_SIGNALING_";
/// Variables with names of their own that are no flags. The configuration file is no setting.
const VARIABLES: &[(&str, &str)] = &[
    (CONFIG_VARIABLE, ""),
    ("ROOM_SIGNALING_TURN_SECRET", "turn.secret"),
    ("ROOM_SIGNALING_ADMIN_TOKEN", "admin.token"),
];
const CONFIG_VARIABLE: &str = "ROOM_SIGNALING_CONFIG";

/// Where the configuration is from: the file, above it the environment, above that these flags.
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
            .help("The configuration file (TOML); the environment and flags override it");
        let flags = FLAGS.iter().map(|flag| {
            Arg::new(flag.name)
                .long(flag.name)
                .value_name(flag.value)
                .action(if flag.is_list { ArgAction::Append } else { ArgAction::Set })
                .allow_negative_numbers(true)
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

impl CheckArgs {
    pub(crate) fn sources(self) -> Sources {
        let sources = self.serve.sources();
        Sources { file: self.file.or(sources.file), ..sources }
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
    use clap::CommandFactory;
    use room_signaling_server::{Config, config::ConfigError};
    use std::time::Duration;

    fn sources(arguments: &[&str], environment: &[(&str, &str)]) -> Sources {
        let arguments = ["room-signaling"].iter().chain(arguments);
        let environment = environment.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        match Cli::try_parse_from(arguments).unwrap().what_to_do() {
            Command::Serve(Later(args)) => args.sources_with(environment),
            other => panic!("{other:?}"),
        }
    }

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        sources(arguments, &[]).load().map(|loaded| loaded.config)
    }

    fn config_of(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        sources(&[], environment).load().map(|loaded| loaded.config)
    }

    #[test]
    fn the_flags_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_says_what_it_is_for() {
        for name in
            ["serve", "check-config", "healthcheck", "turn-credentials", "rooms", "kick", "deny", "token"]
        {
            let about = Cli::command().find_subcommand(name).unwrap().get_about().unwrap().to_string();
            let help = Cli::try_parse_from(["room-signaling", name, "--help"]).unwrap_err().to_string();
            assert!(help.starts_with(&about) && help.contains("Options:"), "{about}\n{help}");
        }
    }

    #[test]
    fn serve_is_the_default_command() {
        for arguments in [&[][..], &["serve"]] {
            let config = config(arguments).unwrap();
            assert_eq!(config.listen[0].to_string(), "127.0.0.1:8765");
            assert_eq!(config.drain, Duration::from_secs(1));
            assert_eq!(config.hub.default_room.unwrap().as_str(), "room_default");
        }
        for arguments in [&["--listen", "[::1]:0"][..], &["serve", "--listen", "[::1]:0"]] {
            assert_eq!(config(arguments).unwrap().listen[0].to_string(), "[::1]:0");
        }
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
    fn what_is_wrong_names_its_flag() {
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
    fn every_setting_can_be_a_variable_and_old_names_still_work() {
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
    fn a_wrong_variable_is_refused_and_an_unknown_one_is_warned_of() {
        for (name, text, words) in [
            ("ROOM_SIGNALING_LIMITS__MAX_ROOMS", "many", "must be a whole number"),
            ("ROOM_SIGNALING_DRAIN_SECONDS", "never", "must be a number"),
            ("ROOM_SIGNALING_LISTEN", "here", "IP address with a port"),
            ("ROOM_SIGNALING_ADMIN_TOKEN", "short", "openssl rand"),
            ("ROOM_SIGNALING_LOG_FORMAT", "jsn", "did you mean `json`?"),
        ] {
            let told = config_of(&[(name, text)]).unwrap_err().to_string();
            assert!(told.starts_with(&format!("{name}: ")) && told.contains(words), "{told}");
        }
        let loaded = sources(&[], &[("ROOM_SIGNALING_LIMITS__MAX_ROOM", "1")]).load().unwrap();
        let words = "ROOM_SIGNALING_LIMITS__MAX_ROOM: there is no such setting; did you mean \
                     ROOM_SIGNALING_LIMITS__MAX_ROOMS?";
        assert_eq!(loaded.warnings, [words]);
    }
}
