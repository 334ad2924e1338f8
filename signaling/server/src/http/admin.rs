//! What only the operator may see: who has the token, and the rooms. Section `admin` of the configuration.

use crate::{
    config::{Config, FilePath, Loader},
    driver::shell::Shell,
};
use room_protocol::{
    RoomId,
    hub::{MemberInfo, RoomInfo},
    wire::Role,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    task,
};

/// The shortest token that is taken: shorter ones can be guessed.
const MIN_TOKEN: usize = 16;
/// What is written of the rooms before others get their turn.
const BYTES_A_TURN: usize = 32 << 10;

/// The token that opens `/metrics` and `/api`.
#[derive(Clone)]
pub struct AdminToken(String);

impl fmt::Debug for AdminToken {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminToken").finish_non_exhaustive()
    }
}

impl TryFrom<String> for AdminToken {
    type Error = &'static str;

    fn try_from(token: String) -> Result<Self, Self::Error> {
        if token.len() < MIN_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "must hold one token of 16 or more characters without spaces: `openssl rand -hex 32` makes one",
            );
        }
        Ok(Self(token))
    }
}

impl AdminToken {
    /// The `Authorization` header that shows it.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether an `Authorization` header shows it. How long that takes tells nothing but the token's length.
    pub(crate) fn is_shown_by(&self, authorization: &str) -> bool {
        let Some((scheme, token)) = authorization.split_once(' ') else { return false };
        scheme.eq_ignore_ascii_case("bearer") && bool::from(self.0.as_bytes().ct_eq(token.trim().as_bytes()))
    }
}

/// The section `admin` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// A file with the token that opens `/metrics` and `/api`.
    pub token_file: Option<FilePath>,
}

impl AdminSettings {
    /// These settings, and where others say something, those.
    pub(crate) fn overridden_by(self, above: Self) -> Self {
        Self { token_file: above.token_file.or(self.token_file) }
    }

    /// Reads the token. What is wrong is told to the loader.
    pub(crate) fn load(self, config: &mut Config, loader: &mut Loader<'_>) {
        const KEY: &str = "admin.token_file";
        let Some(file) = self.token_file else { return };
        let Some(content) = loader.read_secret(KEY, &file) else { return };
        let token = String::from_utf8_lossy(content.trim_ascii()).into_owned();
        match AdminToken::try_from(token) {
            Ok(token) => config.admin_token = Some(token),
            Err(words) => loader.refuse_file(KEY, &file, words),
        }
    }
}

#[derive(Serialize)]
struct RoomLine<'a> {
    room_id: &'a RoomId,
    since: u64,
    members: Vec<MemberLine<'a>>,
}

#[derive(Serialize)]
struct MemberLine<'a> {
    client_id: &'a str,
    role: Role,
    protocol: u32,
    since: u64,
    remote: Option<SocketAddr>,
}

/// Writes all rooms as JSON, some at a time: others are served in between, and however many there are, few of them
/// are in memory. Who comes or goes meanwhile may be told of or not.
pub(crate) async fn write_rooms<S>(shell: &Shell, stream: &mut S) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let (mut last, mut total) = (None, 0);
    stream.write_all(b"{\"rooms\":[").await?;
    loop {
        let mut text = String::new();
        let next = shell.look_at_rooms(last.as_ref(), |room, address| {
            let separator = if total == 0 { "\n" } else { ",\n" };
            total += 1;
            text.push_str(separator);
            text.push_str(&line(&room, address));
            text.len() < BYTES_A_TURN
        });
        stream.write_all(text.as_bytes()).await?;
        if next.is_none() {
            break;
        }
        last = next;
        task::yield_now().await;
    }
    stream.write_all(format!("\n],\"total\":{total}}}\n").as_bytes()).await
}

fn line(room: &RoomInfo<'_>, address: impl Fn(&MemberInfo<'_>) -> Option<SocketAddr>) -> String {
    let members = room.members.iter().map(|member| MemberLine {
        client_id: member.client_id.as_str(),
        role: member.role,
        protocol: member.protocol,
        since: unix(member.since),
        remote: address(member),
    });
    let room = RoomLine { room_id: room.room_id, since: unix(room.since), members: members.collect() };
    serde_json::to_string(&room).unwrap_or_default()
}

/// Seconds since 1970.
fn unix(at: Instant) -> u64 {
    let ago = Instant::now().saturating_duration_since(at);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(ago).saturating_add(Duration::from_millis(500)).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_opens() {
        let token = AdminToken::try_from("0123456789abcdef".to_owned()).unwrap();
        for (header, opens) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer  0123456789abcdef ", true),
            ("Bearer 0123456789abcdeF", false),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdef0", false),
            ("Bearer ", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("", false),
        ] {
            assert_eq!(token.is_shown_by(header), opens, "{header:?}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn weak_tokens_are_refused() {
        for token in ["", "0123456789abcde", "two words of 20 chars", "0123456789abcde\u{e9}"] {
            assert!(AdminToken::try_from(token.to_owned()).unwrap_err().contains("openssl"), "{token}");
        }
    }
}
