//! One connection as the Hub sees it. There may be many, and most are idle, so rare state is boxed.

use super::{
    ConnId, HubConfig, after,
    request::{Join, Process, Register},
    rights::{Pass, PasswordHash},
};
use crate::{
    id::{ClientId, RoomId},
    turn::WallClock,
};
use bytestring::ByteString;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// The heartbeats of connections differ by up to this part of it, so that connections that were opened at the same
/// moment are not all pinged at the same moment.
const SPREAD: u32 = 5;

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) liveness: Liveness,
    /// Its entry in the Hub's deadlines; never later than [`Session::next_due`].
    pub(super) due: Option<Instant>,
    /// The address of the peer.
    pub(super) ip: IpAddr,
    /// The only room that this connection may join, if the client named one when it connected.
    pub(super) room: Option<RoomId>,
    /// The number of bad messages in a row.
    pub(super) bad: u8,
    /// The number of `register` messages that were `forbidden`.
    pub(super) forbidden: u8,
    /// Whether the shell was asked not to read from this connection.
    pub(super) held: bool,
    pub(super) registration: Registration,
    /// Present while other connections want the id that this one has.
    pub(super) probe: Option<Box<Probe>>,
    /// The last request, while it can't be answered yet.
    pub(super) pending: Option<Box<PendingRequest>>,
}

/// The heartbeat (rule 10).
#[derive(Debug, Clone, Copy)]
pub(super) enum Liveness {
    /// The last frame arrived then.
    Heard(Instant),
    /// A ping was sent then, and nothing has arrived since.
    Pinged(Instant),
}

/// Whether a client has registered.
#[derive(Debug)]
pub(super) enum Registration {
    /// Not yet. The connection is closed at that time.
    Missing(Instant),
    /// It has an id.
    Done(Box<Registered>),
}

/// The contents of `register`, and where the client is now.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) client_id: ClientId,
    /// 0 is old.
    pub(super) protocol: u32,
    pub(super) process: Option<Process>,
    pub(super) place: Place,
    /// The rights of its token, on a server that requires tokens.
    pub(super) pass: Option<Box<Pass>>,
}

impl Registered {
    /// Whether its token names its id, which reserves that id for its user.
    pub(super) fn owns_its_id(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.grant.client_id.as_ref() == Some(&self.client_id))
    }

    /// The room that it is in.
    pub(super) fn room_id(&self) -> Option<&RoomId> {
        match &self.place {
            Place::In(room_id) => Some(room_id),
            Place::Nowhere | Place::Automatic(_) => None,
        }
    }
}

/// Where a registered client is. [`Place::In`] mirrors the members of the room: only `membership.rs` changes either.
#[derive(Debug)]
pub(super) enum Place {
    /// In no room.
    Nowhere,
    /// An old client that is in no room yet. It is joined to the default room with its first relay, or at this time
    /// (rule 11).
    Automatic(Option<Instant>),
    /// In this room.
    In(RoomId),
}

/// A request that can't be answered yet. The shell does not read from the connection meanwhile.
#[derive(Debug)]
pub(super) struct PendingRequest {
    pub(super) awaits: Awaits,
    /// The message of an old client that made it join a room, to be read again when it is in.
    pub(super) then: Option<ByteString>,
}

/// The event that a pending request waits for, with the request itself.
#[derive(Debug)]
pub(super) enum Awaits {
    /// A sign of life from the holder of the id, or the end of the time for it (rule 8).
    Holder(ConnId, Join),
    /// The verdict on the token of a `register`.
    RegisterToken(Register),
    /// The verdict on the token of a `join`.
    JoinToken(Join),
    /// The verdict on the password of a `join`, which has to match this hash.
    JoinPassword(PasswordHash, Join),
}

/// The connections that want the id of another one, which was pinged to find out whether its peer is alive.
#[derive(Debug)]
pub(super) struct Probe {
    /// A holder that is still silent then loses its id.
    pub(super) until: Instant,
    /// In order of arrival.
    pub(super) challengers: Vec<ConnId>,
}

impl Session {
    pub(super) fn new(now: Instant, ip: IpAddr, room: Option<RoomId>, config: &HubConfig) -> Self {
        Self {
            liveness: Liveness::Heard(now),
            due: None,
            ip,
            room,
            bad: 0,
            forbidden: 0,
            held: false,
            registration: Registration::Missing(after(now, config.register_timeout)),
            probe: None,
            pending: None,
        }
    }

    pub(super) fn registered(&self) -> Option<&Registered> {
        match &self.registration {
            Registration::Missing(_) => None,
            Registration::Done(registered) => Some(registered),
        }
    }

    pub(super) fn registered_mut(&mut self) -> Option<&mut Registered> {
        match &mut self.registration {
            Registration::Missing(_) => None,
            Registration::Done(registered) => Some(registered),
        }
    }

    /// When something has to be done for this connection if nothing happens before.
    pub(super) fn next_due(
        &self,
        now: Instant,
        conn: ConnId,
        config: &HubConfig,
        clock: &WallClock,
    ) -> Instant {
        let heartbeat = match self.liveness {
            Liveness::Heard(at) => after(at, heartbeat(conn, config)),
            Liveness::Pinged(at) => after(at, config.heartbeat_grace),
        };
        let (registration, grant) = match &self.registration {
            // The time for `register` stands still while its token is being verified.
            Registration::Missing(until) => (Some(*until).filter(|_| self.pending.is_none()), None),
            Registration::Done(registered) => {
                let automatic = match registered.place {
                    Place::Automatic(at) => at,
                    Place::Nowhere | Place::In(_) => None,
                };
                let left = |pass: &Pass| pass.grant.until.saturating_sub(clock.unix(now));
                (automatic, registered.pass.as_ref().map(|pass| after(now, left(pass))))
            }
        };
        let probe = self.probe.as_ref().map(|probe| probe.until);
        [registration, grant, probe].into_iter().flatten().fold(heartbeat, Instant::min)
    }
}

/// How long a connection may be silent before it is pinged: [`HubConfig::heartbeat`], or up to a fifth less.
pub(super) fn heartbeat(conn: ConnId, config: &HubConfig) -> Duration {
    // Fibonacci hashing: numbers in sequence are spread evenly.
    let [.., share] = conn.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let share = u32::from(share);
    config.heartbeat.saturating_sub(config.heartbeat / SPREAD * share / 256)
}
