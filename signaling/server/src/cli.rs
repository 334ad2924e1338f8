//! The command line, each flag of which may be an environment variable as well.

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use room_protocol::{RoomId, wire::IceServer};
use room_signaling::Config;
use std::{net::SocketAddr, time::Duration};

const EXAMPLES: &str = "\
Examples:
  room-signaling
      Serve on this machine alone: WebSockets and the viewer page on http://127.0.0.1:8765/.

  room-signaling serve --listen 0.0.0.0:8765 --allow-host robot.example
      Serve the network, where this machine is also known as robot.example.

  room-signaling --stun stun:stun.example.org:3478 --allow-origin https://viewer.example.org
      Tell clients of a STUN server, and let a page that comes from elsewhere connect.

  ROOM_SIGNALING_LISTEN=127.0.0.1:0 room-signaling --log-format json
      Any free port; the first line of the log says which.";

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
enum Command {
    /// Run the server (what happens without a command, too)
    #[command(after_help = EXAMPLES)]
    Serve(ServeArgs),
}

impl Cli {
    /// What to serve with, with or without the word `serve`.
    pub(crate) fn serve(self) -> ServeArgs {
        match self.command {
            Some(Command::Serve(args)) => args,
            None => self.serve,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen; 0.0.0.0 or [::] for all addresses, port 0 for any free one
    #[arg(long, env = "ROOM_SIGNALING_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8765")]
    listen: SocketAddr,

    /// A name by which browsers may reach this server, beside localhost and its address; `*` for any
    #[arg(long, env = "ROOM_SIGNALING_ALLOW_HOST", value_name = "NAME[:PORT]", value_delimiter = ',')]
    allow_host: Vec<String>,

    /// An origin, beside the server's own page, whose pages may connect; `*` for any
    #[arg(long, env = "ROOM_SIGNALING_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    allow_origin: Vec<String>,

    /// A STUN server that clients are told of when they join
    #[arg(long, env = "ROOM_SIGNALING_STUN", value_name = "stun:HOST:PORT", value_delimiter = ',')]
    stun: Vec<String>,

    /// ICE servers that clients are told of when they join, as RTCPeerConnection takes them:
    /// `[{"urls": ["turn:turn.example.org"], "username": "u", "credential": "c"}]`
    #[arg(long, env = "ROOM_SIGNALING_ICE_SERVERS", value_name = "JSON", hide_env_values = true)]
    ice_servers: Option<String>,

    /// The room of old clients that join none; empty: they are in no room
    #[arg(long, env = "ROOM_SIGNALING_DEFAULT_ROOM", value_name = "ROOM",
        default_value = room_protocol::wire::DEFAULT_ROOM)]
    default_room: String,

    /// Connections at a time
    #[arg(long, env = "ROOM_SIGNALING_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = 20_000)]
    max_connections: usize,

    /// How long members may go on talking after the shutdown was announced to them
    #[arg(
        long,
        env = "ROOM_SIGNALING_DRAIN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    drain_seconds: f64,

    /// How log lines look [default: text on a terminal, json elsewhere]
    #[arg(long, env = "ROOM_SIGNALING_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug or trace, or directives of tracing's EnvFilter
    #[arg(long, env = "ROOM_SIGNALING_LOG", value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For what collects logs: an object a line
    Json,
}

impl ServeArgs {
    /// What the server takes. Errors say which flag to correct, and how.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config {
            listen: self.listen,
            allow_hosts: self.allow_host.clone(),
            allow_origins: self.allow_origin.clone(),
            max_connections: self.max_connections,
            drain: Duration::try_from_secs_f64(self.drain_seconds)
                .context("--drain-seconds must be a number of seconds, 0 or more")?,
            ..Config::default()
        };
        config.hub.default_room = match self.default_room.as_str() {
            "" => None,
            name => Some(RoomId::new(name).with_context(|| format!("--default-room {name:?} can't be"))?),
        };
        config.hub.ice_servers = self.ice_servers()?;
        Ok(config)
    }

    fn ice_servers(&self) -> anyhow::Result<Vec<IceServer>> {
        let mut servers: Vec<IceServer> = match &self.ice_servers {
            None => Vec::new(),
            // The text stays out of the message: it holds credentials.
            Some(text) => serde_json::from_str(text)
                .context("--ice-servers must look like [{\"urls\": [\"stun:stun.example.org:3478\"]}]")?,
        };
        let stun = self.stun.iter().filter(|url| !url.is_empty()).map(|url| stun_url(url));
        servers.extend(stun.map(|url| IceServer { urls: vec![url], username: None, credential: None }));
        let schemes = ["stun:", "stuns:", "turn:", "turns:"];
        for url in servers.iter().flat_map(|server| &server.urls) {
            if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
                bail!("{url:?} is no URL of an ICE server: it must begin with one of {}", schemes.join(", "));
            }
        }
        Ok(servers)
    }
}

/// Takes `host:port` and the `stun://` that GStreamer writes as well (RFC 7064 has no slashes).
fn stun_url(text: &str) -> String {
    let rest = text.strip_prefix("stun:").map_or(text, |rest| rest.strip_prefix("//").unwrap_or(rest));
    if rest.starts_with("stuns:") { rest.into() } else { format!("stun:{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn config(arguments: &[&str]) -> anyhow::Result<Config> {
        let arguments = ["room-signaling"].iter().chain(arguments);
        Cli::try_parse_from(arguments)?.serve().config()
    }

    #[test]
    fn the_flags_are_sound() {
        Cli::command().debug_assert();
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
