//! The commands that change a running server: `kick`, `close-room`, `deny`, `allow`, and `denied`, which lists the denied
//! users and tokens. Each sends one request with the admin token.

use crate::{flags::ServeArgs, local_server::LocalServer};
use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

pub(crate) const KICK_EXAMPLES: &str = "\
Examples:
  room-signaling kick living_room ann-phone
      Remove ann-phone from the room. This id can't join again for a minute. To keep a user out, use deny.

  room-signaling kick living_room ann-phone --config /etc/room-signaling/config.toml
      The same, with the address and the admin token of this configuration.";

pub(crate) const CLOSE_EXAMPLES: &str = "\
Examples:
  room-signaling close-room living_room
      Remove all members from the room. Nobody can join it for a minute.";

pub(crate) const DENY_EXAMPLES: &str = "\
Examples:
  room-signaling deny ann
      Close every connection of the user ann, and refuse all tokens of this user until the server restarts.

  room-signaling deny --token 4f1c62a09bd3e857
      Refuse one token by its id, which is token_id in the log.

A denial ends when the server restarts. For a permanent one, use auth.denied_users or auth.denied_tokens in the
configuration file.";

pub(crate) const ALLOW_EXAMPLES: &str = "\
Examples:
  room-signaling allow ann
      Accept the tokens of the user ann again.

Users and tokens in the configuration file stay denied.";

pub(crate) const DENIED_EXAMPLES: &str = "\
Examples:
  room-signaling denied --config /etc/room-signaling/config.toml
      Print one line for each denied user and token, those of the configuration file included.";

#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// The room
    room: String,
    /// The client id of the member
    client: String,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CloseArgs {
    /// The room
    room: String,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    /// A user; with --token, the id of a token
    name: String,
    /// Treat NAME as the id (jti) of a token
    #[arg(long)]
    token: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Deserialize)]
struct RemovedBody {
    removed: u64,
}

#[derive(Deserialize)]
struct DenyListBody {
    users: Vec<String>,
    tokens: Vec<String>,
}

/// Removes a member from a room.
pub(crate) fn kick(args: KickArgs) -> anyhow::Result<()> {
    let path = format!("/api/rooms/{}/members/{}", escaped(&args.room), escaped(&args.client));
    request(args.serve, "DELETE", &path)?;
    println!("{:?} was removed from {:?} and can't join it again for a minute.", args.client, args.room);
    Ok(())
}

/// Removes all members from a room.
pub(crate) fn close_room(args: CloseArgs) -> anyhow::Result<()> {
    let body = request(args.serve, "DELETE", &format!("/api/rooms/{}", escaped(&args.room)))?;
    let RemovedBody { removed } =
        serde_json::from_str(&body).context("the response of the server can't be parsed")?;
    println!("{removed} members were removed from {:?}, which stays closed for a minute.", args.room);
    Ok(())
}

/// Denies a user or a token.
pub(crate) fn deny(args: DenyArgs) -> anyhow::Result<()> {
    let (kind, key) = args.kind();
    request(args.serve, "PUT", &format!("/api/denied/{kind}/{}", escaped(&args.name)))?;
    println!("{:?} is denied until the server restarts. For a permanent denial, add it to {key}.", args.name);
    Ok(())
}

/// Ends the denial of a user or a token.
pub(crate) fn allow(args: DenyArgs) -> anyhow::Result<()> {
    let (kind, _) = args.kind();
    request(args.serve, "DELETE", &format!("/api/denied/{kind}/{}", escaped(&args.name)))?;
    println!("{:?} is no longer denied.", args.name);
    Ok(())
}

/// Prints the denied users and tokens.
pub(crate) fn denied(serve: ServeArgs) -> anyhow::Result<()> {
    let body = request(serve, "GET", "/api/denied")?;
    let denied: DenyListBody =
        serde_json::from_str(&body).context("the response of the server can't be parsed")?;
    denied.users.iter().for_each(|user| println!("user   {user}"));
    denied.tokens.iter().for_each(|id| println!("token  {id}"));
    Ok(())
}

impl DenyArgs {
    /// The kind in the URL, and the key in the configuration.
    fn kind(&self) -> (&'static str, &'static str) {
        if self.token { ("tokens", "auth.denied_tokens") } else { ("users", "auth.denied_users") }
    }
}

/// Sends a request with the admin token. Returns the body of the response.
fn request(serve: ServeArgs, method: &str, path: &str) -> anyhow::Result<String> {
    let (server, headers) = LocalServer::with_admin_token(&serve.sources())?;
    let response = server.request(method, path, &headers)?;
    match response.status {
        200 => Ok(response.body),
        401 => bail!("the server has another admin token: it reads the token when it starts and reloads"),
        _ => bail!("{}", response.body.trim_end()),
    }
}

fn escaped(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}
