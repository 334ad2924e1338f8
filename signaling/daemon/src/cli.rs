//! The command line. Each flag may be an environment variable as well.

use crate::{
    flags::ServeArgs,
    operate::{self, CloseArgs, DenyArgs, KickArgs},
    users::{self, TokenArgs},
};
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand};
use room_signaling_server::settings::Sources;
use std::path::PathBuf;

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
    /// Read a password from the terminal, or from standard input, and print its hash for a room of the configuration
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
        for arguments in [
            &["room-signaling"][..],
            &["room-signaling", "serve"],
            &["room-signaling", "--listen", "[::1]:0"],
        ] {
            let command = Cli::try_parse_from(arguments).unwrap().what_to_do();
            assert!(matches!(command, Command::Serve(_)), "{command:?}");
        }
    }
}
