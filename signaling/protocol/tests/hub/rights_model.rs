//! A model of the rights of clients, built from the inputs of a Hub only. It checks that no client is in a room, or gets
//! news of one, without the right. Tests on random inputs and the fuzz target share it.

use room_protocol::{
    ClientId, HubConfig, RoomId,
    hub::{Auth, Claim, ConnId, Event, Grant, Output, PasswordHash, RoomRule, Verdict},
    turn::WallClock,
    wire::Role,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// The rights of all connections, from verdicts only.
pub(crate) struct Rights {
    auth: Auth,
    rules: Vec<RoomRule>,
    clock: WallClock,
    clients: BTreeMap<ConnId, Known>,
    /// The number of entries into rooms. A test without entries would prove nothing.
    pub(crate) joins: usize,
}

#[derive(Default)]
struct Known {
    /// The claim that is being verified.
    asked: Option<Claim>,
    /// All grants that it ever had.
    grants: Vec<Grant>,
    /// All passwords that it ever proved to know.
    passed: BTreeSet<PasswordHash>,
    place: Option<(ClientId, RoomId, Role)>,
}

impl Rights {
    pub(crate) fn new(config: &HubConfig, clock: WallClock) -> Self {
        let (auth, rules) = (config.auth.clone(), config.room_rules.clone());
        Self { auth, rules, clock, clients: BTreeMap::new(), joins: 0 }
    }

    /// The Hub is about to be reconfigured.
    pub(crate) fn reconfigure(&mut self, config: &HubConfig) {
        (self.auth, self.rules) = (config.auth.clone(), config.room_rules.clone());
    }

    /// The Hub is about to get this verdict.
    pub(crate) fn verdict(&mut self, conn: ConnId, verdict: &Verdict) {
        let Some(known) = self.clients.get_mut(&conn) else { return };
        match (known.asked.take(), verdict) {
            (Some(Claim::Token(_)), Verdict::Granted(grant)) => known.grants.push((**grant).clone()),
            (Some(Claim::Password { hash, .. }), Verdict::Passed) => drop(known.passed.insert(hash)),
            _ => {}
        }
    }

    /// The claim that is being verified for a connection.
    pub(crate) fn asked(&self, conn: ConnId) -> Option<&Claim> {
        self.clients.get(&conn)?.asked.as_ref()
    }

    /// A connection ended without an output of the Hub.
    pub(crate) fn disconnected(&mut self, conn: ConnId) {
        self.clients.remove(&conn);
    }

    /// Checks an output of the Hub at `now`.
    pub(crate) fn output(&mut self, now: Instant, output: &Output) {
        match output {
            Output::Verify(conn, claim) => {
                let asked = self.clients.entry(*conn).or_default().asked.replace(claim.clone());
                assert!(asked.is_none(), "two claims of {conn:?} at a time");
            }
            Output::Close(conn, ..) => drop(self.clients.remove(conn)),
            Output::Event(conn, Event::Joined { client_id, room_id, role }) => {
                let place = (client_id.clone(), room_id.clone(), *role);
                self.clients.entry(*conn).or_default().place = Some(place);
                self.joins += 1;
                self.check_one(now, *conn, "is in");
            }
            Output::Event(conn, Event::Left { .. }) => {
                self.clients.entry(*conn).or_default().place = None;
            }
            Output::Send(conn, text) => self.heard(now, *conn, text),
            Output::Ping(_) | Output::Hold(_) | Output::Release(_) | Output::Event(..) => {}
        }
    }

    fn heard(&self, now: Instant, conn: ConnId, text: &str) {
        let message: Value = serde_json::from_str(text).expect("JSON");
        let of_a_room = message.get("from").is_some_and(|from| !from.is_null())
            || matches!(message["type"].as_str(), Some("peer_joined" | "peer_left" | "peers"));
        // A pong repeats the client's own fields.
        if of_a_room && message["type"] != "pong" {
            self.check_one(now, conn, "hears of");
        }
    }

    /// Checks that every member has the right to be in its room.
    pub(crate) fn check(&self, now: Instant) {
        for (conn, known) in &self.clients {
            if known.place.is_some() {
                self.check_one(now, *conn, "is still in");
            }
        }
    }

    fn check_one(&self, now: Instant, conn: ConnId, what: &str) {
        let known = self.clients.get(&conn);
        let Some((known, (client_id, room_id, role))) =
            known.and_then(|known| Some((known, known.place.as_ref()?)))
        else {
            panic!("{conn:?}, who is in no room, {what} one");
        };
        let may = match &self.auth {
            Auth::None => true,
            Auth::Token { keys, .. } => known.grants.iter().any(|grant| {
                grant.until > self.clock.unix(now)
                    && keys.contains(&grant.key)
                    && grant.client_id.as_ref().is_none_or(|pinned| pinned == client_id)
                    && grant.rooms.iter().any(|rooms| rooms.matches(room_id))
                    && grant.roles.contains(role)
            }),
        };
        assert!(may, "{client_id} {what} {room_id} as {role:?} without a token that says so");
        let mut rules = self.rules.iter().filter(|rule| rule.rooms.matches(room_id));
        // The room rules of these tests don't overlap.
        let hash = rules.next().and_then(|rule| rule.password.as_ref());
        let right = hash.is_none_or(|hash| known.passed.contains(hash));
        assert!(right, "{client_id} {what} {room_id} without its password");
    }
}
