//! The command `rooms`: lists the rooms of the running server and their members.

use crate::local_server::LocalServer;
use anyhow::{Context, bail};
use room_signaling_server::settings::Sources;
use serde::Deserialize;
use std::time::{Duration, SystemTime};

#[derive(Debug, Deserialize)]
struct Listing {
    rooms: Vec<ListedRoom>,
}

#[derive(Debug, Deserialize)]
struct ListedRoom {
    room_id: String,
    members: Vec<ListedMember>,
}

#[derive(Debug, Deserialize)]
struct ListedMember {
    client_id: String,
    role: String,
    /// Seconds since 1970.
    since: u64,
    remote: Option<String>,
}

/// Prints the rooms as a table, or as the JSON of the server.
pub(crate) fn print(sources: &Sources, json: bool) -> anyhow::Result<()> {
    let (server, headers) = LocalServer::with_admin_token(sources)?;
    let response = server.get("/api/rooms", &headers)?;
    if response.status != 200 {
        bail!(
            "the server answers {}: {}\nIt may have another admin token: it reads the token when it starts and reloads.",
            response.status,
            response.body.trim_end()
        );
    }
    if json {
        print!("{}", response.body);
        return Ok(());
    }
    let listing: Listing =
        serde_json::from_str(&response.body).context("the response of the server is not a list of rooms")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    print!("{}", table(&listing, now));
    Ok(())
}

/// A table with one line for each member.
fn table(listing: &Listing, now: Duration) -> String {
    let mut rows = vec![["ROOM", "CLIENT", "ROLE", "HERE FOR", "FROM"].map(str::to_owned)];
    for room in &listing.rooms {
        for member in &room.members {
            let here = Duration::from_secs(now.as_secs().saturating_sub(member.since));
            rows.push([
                room.room_id.clone(),
                member.client_id.clone(),
                member.role.clone(),
                room_signaling_server::Age(here).to_string(),
                member.remote.clone().unwrap_or_default(),
            ]);
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [0, 1, 2, 3, 4].map(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_line_for_each_member() {
        let answer = r#"{"rooms": [
            {"room_id": "客厅", "since": 1, "members": [
                {"client_id": "camera", "role": "sender", "protocol": 1, "since": 900, "remote": "192.0.2.1:5000"},
                {"client_id": "v", "role": "receiver", "protocol": 0, "since": 990, "remote": null}
            ]}
        ], "total": 1}"#;
        let rooms = serde_json::from_str(answer).unwrap();
        assert_eq!(
            table(&rooms, Duration::from_secs(1_000)),
            "ROOM  CLIENT  ROLE      HERE FOR     FROM\n\
             客厅    camera  sender    100 seconds  192.0.2.1:5000\n\
             客厅    v       receiver  10 seconds\n"
        );
    }
}
