//! `GET /api/rooms`: the members of all rooms, for operators.

use super::out::Out;
use crate::{
    driver::Driver,
    net::{budget::RequestAccount, socket::Socket},
};
use room_protocol::{
    RoomId,
    hub::{MemberInfo, RoomInfo},
    wire::Role,
};
use serde::Serialize;
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task;

/// The bytes that are made and written before other tasks run.
const BYTES_A_STEP: usize = 32 << 10;

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

/// Writes all rooms as JSON, some at a time, so that other connections are served in between and only a part of the text
/// is in memory. Members that join or leave meanwhile may be in it or not.
pub(super) async fn write<S: Socket>(
    driver: &Driver,
    out: &mut Out<'_, S>,
    account: &RequestAccount,
) -> io::Result<()> {
    let (mut last, mut total) = (None, 0);
    out.write(&b"{\"rooms\":["[..]).await?;
    loop {
        let mut text = String::new();
        let next = driver.look_at_rooms(last.as_ref(), |room, address| {
            let separator = if total == 0 { "\n" } else { ",\n" };
            total += 1;
            text.push_str(separator);
            text.push_str(&line(&room, address));
            text.len() < BYTES_A_STEP
        });
        account.set(text.capacity());
        driver.keep_within_budget();
        out.write(text.as_bytes()).await?;
        if next.is_none() {
            break;
        }
        last = next;
        task::yield_now().await;
    }
    out.write(format!("\n],\"total\":{total}}}\n").as_bytes()).await
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

/// UNIX time, in seconds.
fn unix(at: Instant) -> u64 {
    let ago = Instant::now().saturating_duration_since(at);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(ago).saturating_add(Duration::from_millis(500)).as_secs()
}
