//! The commands and their arguments. `flags.rs` has the flags of the configuration, which most commands share.

use crate::{
    commands::{
        admin::{self, CloseArgs, DenyArgs, KickArgs},
        credentials::{self, TokenArgs},
    },
    flags::ServeArgs,
};
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use room_signaling_server::settings::Sources;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  room-signaling
      Serve this machine only, with the viewer page on http://127.0.0.1:8765/.

  room-signaling serve --listen 0.0.0.0:8765 --allow-host robot.example
      Serve the network. Browsers can reach this machine as robot.example.

  room-signaling --listen 0.0.0.0:8765 --allow-host robot.example --tls-certificate full.pem --tls-key key.pem
      The same with TLS: https:// and wss:// only.

  room-signaling --stun stun:stun.example.org:3478 --allow-origin https://viewer.example.org
      Give clients a STUN server, and allow pages of another site to connect.

  ROOM_SIGNALING_LISTEN=127.0.0.1:0 room-signaling --log-format json
      Listen on any free port. The first line of the log names it.

  room-signaling check-config /etc/room-signaling/config.toml
      Check the file, and list everything that is wrong with it.";

const CHECK_EXAMPLES: &str = "\
Examples:
  room-signaling check-config /etc/room-signaling/config.toml
      Print `ok`, or one line for each problem, with its file, line and key. The exit status is 1 if there are problems.

  room-signaling check-config --config config.toml --max-connections 500
      Check the file together with a flag.";

const HEALTH_EXAMPLES: &str = "\
Examples:
  room-signaling healthcheck --config /etc/room-signaling/config.toml
      Exit with 0 if the server answers on the address of this configuration. Containers can use this as HEALTHCHECK.";

const TURN_EXAMPLES: &str = "\
Examples:
  room-signaling turn-credentials --config /etc/room-signaling/config.toml
      Print ice_servers and ice_ttl_s, to test a TURN server with its own tools. This needs no running server.";

const ROOMS_EXAMPLES: &str = "\
Examples:
  room-signaling rooms --config /etc/room-signaling/config.toml
      Print a table, using the address and the admin token of this configuration.

  room-signaling rooms --json | jq '.rooms[].room_id'
      Print the names of the rooms.";

/// A WebRTC signaling server with rooms. It introduces peers and relays their messages; no media passes through it
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
    /// Run the server (the default command)
    #[command(after_help = EXAMPLES)]
    Serve(Deferred<ServeArgs>),
    /// Check the configuration and report everything that would keep `serve` from starting
    #[command(after_help = CHECK_EXAMPLES)]
    CheckConfig(Deferred<CheckArgs>),
    /// Check that the server with this configuration is running (GET /healthz); otherwise exit with 1
    #[command(after_help = HEALTH_EXAMPLES)]
    Healthcheck(Deferred<ServeArgs>),
    /// Print the ICE servers that a joining client gets, with new TURN credentials
    #[command(after_help = TURN_EXAMPLES)]
    TurnCredentials(Deferred<TurnCredentialsArgs>),
    /// List the rooms and their members on the running server
    #[command(after_help = ROOMS_EXAMPLES)]
    Rooms(Deferred<RoomsArgs>),
    /// Remove a member from its room on the running server
    #[command(after_help = admin::KICK_EXAMPLES)]
    Kick(Deferred<KickArgs>),
    /// Remove all members from a room on the running server
    #[command(after_help = admin::CLOSE_EXAMPLES)]
    CloseRoom(Deferred<CloseArgs>),
    /// Deny a user or a token on the running server, and close its connections
    #[command(after_help = admin::DENY_EXAMPLES)]
    Deny(Deferred<DenyArgs>),
    /// Allow a user or a token again that was denied with `deny`
    #[command(after_help = admin::ALLOW_EXAMPLES)]
    Allow(Deferred<DenyArgs>),
    /// List the denied users and tokens on the running server
    #[command(after_help = admin::DENIED_EXAMPLES)]
    Denied(Deferred<ServeArgs>),
    /// Issue a token for a server that requires tokens, and print it
    #[command(after_help = credentials::TOKEN_EXAMPLES)]
    Token(Deferred<TokenArgs>),
    /// Hash the password of a room, and print the hash for the configuration
    #[command(after_help = credentials::HASH_EXAMPLES)]
    HashPassword,
    /// Write the manual page and shell completions, for packages
    #[command(hide = true)]
    Generate {
        /// An existing folder
        folder: PathBuf,
    },
}

impl Cli {
    /// The command; the default is `serve`.
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(Deferred(self.serve)))
    }
}

/// The arguments of a command, built only if that command was given. Most commands have all flags of `serve`; to build
/// those for every command takes a tenth of the start-up time.
#[derive(Debug)]
pub(crate) struct Deferred<A>(pub(crate) A);

impl<A: Args> Args for Deferred<A> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(A::augment_args)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command.defer(A::augment_args_for_update)
    }
}

impl<A: FromArgMatches> FromArgMatches for Deferred<A> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        A::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The file to check [default: the file of --config]
    file: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TurnCredentialsArgs {
    /// The user name in the log of the TURN server [default: random, as for clients]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RoomsArgs {
    /// Print the JSON of the server instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
}

impl CheckArgs {
    pub(crate) fn sources(self) -> Sources {
        let sources = self.serve.sources();
        Sources { file: self.file.or(sources.file), ..sources }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_has_a_help_text() {
        let commands = Cli::command();
        let names = commands.get_subcommands().filter(|command| !command.is_hide_set());
        for name in names.map(clap::Command::get_name) {
            let about = Cli::command().find_subcommand(name).unwrap().get_about().unwrap().to_string();
            let help = Cli::try_parse_from(["room-signaling", name, "--help"]).unwrap_err().to_string();
            assert!(
                help.starts_with(&about) && help.contains("Options:") && help.contains("\nExamples:\n"),
                "{about}\n{help}"
            );
        }
    }

    #[test]
    fn serve_is_the_default_command() {
        for arguments in [
            &["room-signaling"][..],
            &["room-signaling", "serve"],
            &["room-signaling", "--listen", "[::1]:0"],
        ] {
            let command = Cli::try_parse_from(arguments).unwrap().into_command();
            assert!(matches!(command, Command::Serve(_)), "{command:?}");
        }
    }
}
