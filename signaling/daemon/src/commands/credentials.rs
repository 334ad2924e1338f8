//! The commands that make credentials: `token` issues a token, `hash-password` hashes the password of a room. Neither needs
//! a running server.

use anyhow::{Context, bail};
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use room_protocol::{ClientId, UserId, hub::RoomPattern, wire::Role};
use room_signaling_server::auth::{SigningKey, TokenSpec, hash_password};
use std::{
    fs,
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};

pub(crate) const TOKEN_EXAMPLES: &str = "\
Examples:
  openssl rand -hex 32 > room.key && chmod 600 room.key
      Make a secret for HS256. In the server's file: [[auth.keys]] kid = \"room\", algorithm = \"HS256\", file = \"room.key\"

  room-signaling token --key room.key --kid room --user robot-7 --room living_room --role sender --ttl 30d
      Issue a token for a robot that sends its camera into one room.

  room-signaling token --key room.key --kid room --user ann --room 'lab*' --room hall --role receiver --ttl 12h
      Issue a token for a viewer, for all rooms that begin with lab and for the hall.

  openssl genpkey -algorithm ed25519 -out private.pem && openssl pkey -in private.pem -pubout -out public.pem
      Make a key pair. Issue tokens with private.pem; the server (algorithm = \"EdDSA\") needs only public.pem.";

pub(crate) const HASH_EXAMPLES: &str = "\
Examples:
  room-signaling hash-password
      Ask for the password twice, and print the value of password_hash in [[rooms]].

  printf %s \"$PASSWORD\" | room-signaling hash-password
      Read the password from standard input, without the end of the line.";

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The file of the signing key: a secret for HS256, or a private key in PEM (P-256 or Ed25519)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// The name of the key in the server's configuration
    #[arg(long, value_name = "NAME")]
    kid: String,

    /// The user for whom the token is issued
    #[arg(long, value_name = "NAME", value_parser = |text: &str| UserId::new(text))]
    user: UserId,

    /// The id of the token (jti), by which it can be denied; the server logs it as token_id [default: random]
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    id: Option<String>,

    /// The only client id with which the token may be used; this id is then reserved for the user [default: any]
    #[arg(long, value_name = "ID", value_parser = |text: &str| ClientId::new(text))]
    client_id: Option<ClientId>,

    /// A room that the token grants: a name, or a prefix followed by *; may be repeated
    #[arg(long, required = true, value_name = "ROOM", value_parser = RoomPattern::new)]
    room: Vec<RoomPattern>,

    /// The roles that it grants, separated by commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "ROLE", value_parser = role_parser())]
    role: Vec<Role>,

    /// The audience of the server's configuration, if it has one; may be repeated
    #[arg(long, value_name = "NAME")]
    audience: Vec<String>,

    /// The lifetime: a number followed by s, m, h or d
    #[arg(long, default_value = "12h", value_name = "TIME", value_parser = time_to_live)]
    ttl: Duration,
}

fn role_parser() -> impl TypedValueParser<Value = Role> {
    let names = Role::ALL.iter().map(|role| role.as_str());
    PossibleValuesParser::new(names).try_map(|name| Role::from_name(&name).ok_or("unknown role"))
}

/// Issues a token and prints it.
pub(crate) fn token(args: TokenArgs) -> anyhow::Result<()> {
    let unix = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock shows a time before 1970")?;
    println!("{}", make_token(args, unix)?);
    Ok(())
}

fn make_token(args: TokenArgs, now: Duration) -> anyhow::Result<String> {
    let path = args.key.display();
    let content = fs::read(&args.key).with_context(|| format!("--key {path} can't be read"))?;
    let key = SigningKey::new(&content).with_context(|| format!("--key {path}"))?;
    let spec = TokenSpec {
        kid: args.kid,
        user: args.user,
        id: Some(args.id.map_or_else(random_id, Ok)?),
        client_id: args.client_id,
        rooms: args.room,
        roles: args.role,
        audience: args.audience,
        expires: now + args.ttl,
    };
    Ok(spec.sign(&key)?)
}

fn random_id() -> anyhow::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    Ok(format!("{:016x}", u64::from_be_bytes(random)))
}

fn time_to_live(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a lifetime: write a number followed by s, m, h or d, such as 12h");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let number: u32 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    if number == 0 {
        return Err("a token must be valid for at least 1s".into());
    }
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// Reads a password and prints its hash.
pub(crate) fn hash() -> anyhow::Result<()> {
    let password = if io::stdin().is_terminal() { ask()? } else { read_line(&mut io::stdin().lock())? };
    if password.is_empty() {
        bail!("an empty password protects nothing");
    }
    let hash = hash_password(&password).context("the password can't be hashed")?;
    writeln!(io::stdout(), "{hash}")?;
    Ok(())
}

fn ask() -> anyhow::Result<String> {
    let password =
        rpassword::prompt_password("Password: ").context("the password can't be read from the terminal")?;
    let again =
        rpassword::prompt_password("Again: ").context("the password can't be read from the terminal")?;
    if password != again {
        bail!("the passwords differ");
    }
    Ok(password)
}

fn read_line(input: &mut impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line).context("the password can't be read")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(time_to_live(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "12", "0h", "-1h", "1.5h", "12 h", "12时", "5000000000s"] {
            assert!(time_to_live(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_ends_at_the_end_of_its_line() {
        for (input, password) in [("p\n", "p"), ("p\r\nq\n", "p"), (" p q ", " p q "), ("", "")] {
            assert_eq!(read_line(&mut input.as_bytes()).unwrap(), password);
        }
    }
}
