//! The commands for operators of a running server: `kick`, `close-room`, `deny`, `allow`, `denied`.

use crate::{ask::Local, flags::ServeArgs};
use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

pub(crate) const KICK_EXAMPLES: &str = "\
Examples:
  room-signaling kick living_room ann-phone
      Removes ann-phone from the room. That id stays out for a minute; to keep a user out, deny the user.

  room-signaling kick living_room ann-phone --config /etc/room-signaling/config.toml
      The same for the server with that configuration, which names its address and its admin token.";

pub(crate) const CLOSE_EXAMPLES: &str = "\
Examples:
  room-signaling close-room living_room
      Removes all members from the room. It stays closed to everybody for a minute.";

pub(crate) const DENY_EXAMPLES: &str = "\
Examples:
  room-signaling deny ann
      Closes every connection of the user ann, and refuses all her tokens until the server restarts.

  room-signaling deny --token 4f1c62a09bd3e857
      Refuses one token by its id: `room-signaling token` writes it into the token, and the log shows it as token_id.

To deny them after a restart, too, add them to auth.denied_users or auth.denied_tokens in the configuration file.";

#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// The room
    room: String,
    /// The id of the member
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
    /// The user, or with --token the id of a token
    name: String,
    /// The name is the id (jti) of one token
    #[arg(long)]
    token: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Deserialize)]
struct Removed {
    removed: u64,
}

#[derive(Deserialize)]
struct Denied {
    users: Vec<String>,
    tokens: Vec<String>,
}

/// Removes a member from a room.
pub(crate) fn kick(args: KickArgs) -> anyhow::Result<()> {
    let path = format!("/api/rooms/{}/members/{}", escaped(&args.room), escaped(&args.client));
    request(args.serve, "DELETE", &path)?;
    println!("{:?} was removed from {:?} and can't return for a minute.", args.client, args.room);
    Ok(())
}

/// Removes all members from a room.
pub(crate) fn close_room(args: CloseArgs) -> anyhow::Result<()> {
    let body = request(args.serve, "DELETE", &format!("/api/rooms/{}", escaped(&args.room)))?;
    let Removed { removed } = serde_json::from_str(&body).context("the server's answer is unreadable")?;
    println!("{removed} members were removed from {:?}, which stays closed for a minute.", args.room);
    Ok(())
}

/// Denies a user or a token.
pub(crate) fn deny(args: DenyArgs) -> anyhow::Result<()> {
    let (kind, key) = args.kind();
    request(args.serve, "PUT", &format!("/api/denied/{kind}/{}", escaped(&args.name)))?;
    println!("{:?} is denied until the server restarts. To deny it for ever, add it to {key}.", args.name);
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
    let denied: Denied = serde_json::from_str(&body).context("the server's answer is unreadable")?;
    denied.users.iter().for_each(|user| println!("user   {user}"));
    denied.tokens.iter().for_each(|id| println!("token  {id}"));
    Ok(())
}

impl DenyArgs {
    /// The kind in the path, and the key in the configuration.
    fn kind(&self) -> (&'static str, &'static str) {
        if self.token { ("tokens", "auth.denied_tokens") } else { ("users", "auth.denied_users") }
    }
}

/// The body of the answer to a request with the admin token.
fn request(serve: ServeArgs, method: &str, path: &str) -> anyhow::Result<String> {
    let (local, headers) = Local::of_operator(&serve.sources())?;
    let answer = local.request(method, path, &headers)?;
    match answer.status {
        200 => Ok(answer.body),
        401 => bail!("the server has another admin token: it reads the token when it starts or reloads"),
        _ => bail!("{}", answer.body.trim_end()),
    }
}

fn escaped(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}
