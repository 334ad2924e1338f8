//! The command line, each flag of which may be an environment variable as well.

use crate::users::{self, TokenArgs};
use anyhow::{Context, bail};
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use room_protocol::{turn::TurnSecret, wire::IceServer};
use room_signaling_server::TrustedProxy;
use room_signaling_server::config::{
    AdminSettings, DefaultRoom, IceServerSettings, LimitSettings, Located, LogFormat, LogLevel, Seconds,
    Settings, Sources, StunUrl, TURN_SECRET_VARIABLE, TlsSettings, TurnSettings, TurnUrl,
};
use std::{env::VarError, ffi::OsStr, fmt::Display, net::SocketAddr, num::NonZeroUsize, path::PathBuf};

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

// Flags lie above the environment, and both above the file. (As its documentation, this would be what each command with
// these flags says of itself.)
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration file (TOML), below the environment and flags
    #[arg(long, env = "ROOM_SIGNALING_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen; 0.0.0.0 or [::] for all addresses, port 0 for any free one [default: 127.0.0.1:8765]
    #[arg(long, env = "ROOM_SIGNALING_LISTEN", value_name = "IP:PORT")]
    listen: Option<SocketAddr>,

    /// The chain of certificates (PEM) to speak TLS with: https:// and wss://, and nothing else
    #[arg(long, env = "ROOM_SIGNALING_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,

    /// The key (PEM) of that certificate
    #[arg(long, env = "ROOM_SIGNALING_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// A name by which browsers may reach this server, beside localhost and its address; `*` for any
    #[arg(long, env = "ROOM_SIGNALING_ALLOW_HOST", value_name = "NAME[:PORT]", value_delimiter = ',')]
    allow_host: Option<Vec<String>>,

    /// An origin, beside the server's own page, whose pages may connect; `*` for any
    #[arg(long, env = "ROOM_SIGNALING_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allow_origin: Option<Vec<String>>,

    /// A proxy, or a network of them, whose X-Forwarded-For is believed
    #[arg(long, env = "ROOM_SIGNALING_TRUSTED_PROXY", value_name = "IP[/BITS]", value_delimiter = ',')]
    trusted_proxy: Option<Vec<TrustedProxy>>,

    /// Where /metrics, /api, /healthz and /readyz are answered without a token: for operators alone
    #[arg(long, env = "ROOM_SIGNALING_METRICS_LISTEN", value_name = "IP:PORT")]
    metrics_listen: Option<SocketAddr>,

    /// A file with the token that opens /metrics and /api where everybody connects
    #[arg(long, env = "ROOM_SIGNALING_ADMIN_TOKEN_FILE", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,

    /// A STUN server that clients are told of when they join
    #[arg(long, env = "ROOM_SIGNALING_STUN", value_name = "stun:HOST:PORT", value_delimiter = ',')]
    stun: Option<Vec<String>>,

    /// ICE servers that clients are told of when they join, as RTCPeerConnection takes them:
    /// `[{"urls": ["turn:turn.example.org"], "username": "u", "credential": "c"}]`
    #[arg(long, env = "ROOM_SIGNALING_ICE_SERVERS", value_name = "JSON", hide_env_values = true)]
    ice_servers: Option<String>,

    /// A TURN server that clients are told of when they join, with credentials made for each of them
    #[arg(long, env = "ROOM_SIGNALING_TURN", value_name = "turn:HOST:PORT", value_delimiter = ',')]
    turn: Option<Vec<String>>,

    /// The file with the secret that the TURN servers know, too (static-auth-secret of coturn); the variable
    /// ROOM_SIGNALING_TURN_SECRET may hold the secret itself
    #[arg(long, env = "ROOM_SIGNALING_TURN_SECRET_FILE", value_name = "FILE")]
    turn_secret_file: Option<PathBuf>,

    /// The room of old clients that join none; empty: they are in no room [default: room_default]
    #[arg(long, env = "ROOM_SIGNALING_DEFAULT_ROOM", value_name = "ROOM", value_parser = of_text::<DefaultRoom>)]
    default_room: Option<DefaultRoom>,

    /// Connections at a time [default: 20000]
    #[arg(long, env = "ROOM_SIGNALING_MAX_CONNECTIONS", value_name = "COUNT")]
    max_connections: Option<NonZeroUsize>,

    /// How long members may go on talking after the shutdown was announced to them [default: 1]
    #[arg(long, env = "ROOM_SIGNALING_DRAIN_SECONDS", value_name = "SECONDS", allow_negative_numbers = true)]
    drain_seconds: Option<Seconds>,

    /// How log lines look [default: text on a terminal, journald in a service of systemd, json elsewhere]
    #[arg(long, env = "ROOM_SIGNALING_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<Format>,

    /// What is logged: off, error, warn, info, debug or trace, for parts of the program, too:
    /// `info,room_signaling::log=debug` [default: info]
    #[arg(long, env = "ROOM_SIGNALING_LOG", value_name = "LEVEL", value_parser = of_text::<LogLevel>)]
    log_level: Option<LogLevel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For what collects logs: an object a line
    Json,
    /// Into systemd's journal, with its fields
    Journald,
}

impl CheckArgs {
    pub(crate) fn sources(self) -> anyhow::Result<Sources> {
        let sources = self.serve.sources()?;
        Ok(Sources { file: self.file.or(sources.file), ..sources })
    }
}

impl ServeArgs {
    /// Where the configuration comes from. Errors say which flag to correct, and how.
    pub(crate) fn sources(self) -> anyhow::Result<Sources> {
        let above = Settings {
            listen: self.listen,
            allow_hosts: self.allow_host.map(without_empty),
            allow_origins: self.allow_origin.map(without_empty),
            stun: self.stun.map(stun).transpose()?,
            ice_servers: self.ice_servers.as_deref().map(ice_servers).transpose()?,
            default_room: self.default_room,
            drain_seconds: self.drain_seconds,
            log_format: self.log_format.map(|format| match format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
                Format::Journald => LogFormat::Journald,
            }),
            log_level: self.log_level,
            trusted_proxies: self.trusted_proxy,
            metrics_listen: self.metrics_listen,
            admin: AdminSettings { token_file: self.admin_token_file.map(Into::into) },
            tls: TlsSettings {
                certificate: self.tls_certificate.map(Into::into),
                key: self.tls_key.map(Into::into),
                ..TlsSettings::default()
            },
            limits: LimitSettings { max_connections: self.max_connections, ..LimitSettings::default() },
            turn: TurnSettings {
                urls: self.turn.map(turn).transpose()?,
                secret_file: self.turn_secret_file.map(Located::from),
                secret: turn_secret()?,
                ttl_seconds: None,
            },
            ..Settings::default()
        };
        Ok(Sources { file: self.config, above })
    }
}

/// Variables of the environment that look like settings and are none.
pub(crate) fn unknown_variables() -> Vec<String> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("ROOM_SIGNALING_") && name != TURN_SECRET_VARIABLE).collect();
    // Mostly there are none, and no flags to be made to compare them with.
    if !names.is_empty() {
        let command = Cli::command();
        let known: Vec<&OsStr> = command.get_arguments().filter_map(clap::Arg::get_env).collect();
        names.retain(|name| !known.contains(&OsStr::new(name)));
    }
    names
}

/// Parses a value in the way that it is parsed in the file.
fn of_text<T: TryFrom<String>>(text: &str) -> Result<T, T::Error> {
    text.to_owned().try_into()
}

/// An empty environment variable is an empty list.
fn without_empty(list: Vec<String>) -> Vec<String> {
    list.into_iter().filter(|entry| !entry.is_empty()).collect()
}

fn stun(urls: Vec<String>) -> anyhow::Result<Vec<StunUrl>> {
    without_empty(urls)
        .into_iter()
        .map(|url| url.try_into().map_err(|error| of_flag("--stun", error)))
        .collect()
}

fn turn(urls: Vec<String>) -> anyhow::Result<Located<Vec<TurnUrl>>> {
    let urls: anyhow::Result<Vec<_>> = without_empty(urls)
        .into_iter()
        .map(|url| url.try_into().map_err(|error| of_flag("--turn", error)))
        .collect();
    urls.map(Located::from)
}

/// A secret is no flag: everybody on the machine can read those.
fn turn_secret() -> anyhow::Result<Option<TurnSecret>> {
    match std::env::var(TURN_SECRET_VARIABLE) {
        Err(VarError::NotPresent) => Ok(None),
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(TurnSecret::new(&text).context(TURN_SECRET_VARIABLE)?)),
        // The text stays out of the message.
        Err(VarError::NotUnicode(_)) => bail!("{TURN_SECRET_VARIABLE} must be text"),
    }
}

fn ice_servers(json: &str) -> anyhow::Result<Vec<IceServerSettings>> {
    // The text stays out of the message: it holds credentials.
    let servers: Vec<IceServer> = serde_json::from_str(json)
        .context("--ice-servers must look like [{\"urls\": [\"stun:stun.example.org:3478\"]}]")?;
    servers
        .into_iter()
        .map(|server| server.try_into().map_err(|error| of_flag("--ice-servers", error)))
        .collect()
}

fn of_flag(flag: &str, error: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{flag}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use room_signaling_server::Config;
    use std::time::Duration;

    fn config(arguments: &[&str]) -> anyhow::Result<Config> {
        let arguments = ["room-signaling"].iter().chain(arguments);
        match Cli::try_parse_from(arguments)?.what_to_do() {
            Command::Serve(Later(args)) => Ok(args.sources()?.load()?.config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_flags_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_says_what_it_is_for() {
        for name in ["serve", "check-config", "healthcheck", "turn-credentials", "rooms", "token"] {
            let about = Cli::command().find_subcommand(name).unwrap().get_about().unwrap().to_string();
            let help = Cli::try_parse_from(["room-signaling", name, "--help"]).unwrap_err().to_string();
            assert!(help.starts_with(&about) && help.contains("Options:"), "{about}\n{help}");
        }
    }

    #[test]
    fn serve_is_the_default_command() {
        for arguments in [&[][..], &["serve"]] {
            let config = config(arguments).unwrap();
            assert_eq!(config.listen.to_string(), "127.0.0.1:8765");
            assert_eq!(config.drain, Duration::from_secs(1));
            assert_eq!(config.hub.default_room.unwrap().as_str(), "room_default");
        }
        for arguments in [&["--listen", "[::1]:0"][..], &["serve", "--listen", "[::1]:0"]] {
            assert_eq!(config(arguments).unwrap().listen.to_string(), "[::1]:0");
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
            (["--ice-servers", r#"[{"urls": ["http://x"]}]"#], "http://x"),
            (["--listen", "here"], "--listen"),
            (["--turn", "stun:t.example"], "--turn"),
            (["--turn", "turn:t.example"], "ROOM_SIGNALING_TURN_SECRET"),
        ] {
            let error = format!("{:#}", config(&arguments).unwrap_err());
            assert!(error.contains(flag), "{error}");
        }
    }

    #[test]
    fn an_empty_default_room_switches_it_off() {
        assert!(config(&["--default-room", ""]).unwrap().hub.default_room.is_none());
    }
}
