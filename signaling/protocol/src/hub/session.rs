//! One connection as the Hub sees it. There may be many, and most are idle, so rare state is boxed.

use super::{
    ConnId, HubConfig, after,
    request::Register,
    rights::{Pass, PasswordHash},
    room::Join,
};
use crate::{
    id::{ClientId, Epoch, Instance, RoomId},
    turn::WallClock,
};
use bytestring::ByteString;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

/// The part of the heartbeat by which connections differ: a crowd that came at one moment is not pinged at one moment.
const SPREAD: u32 = 5;

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    /// When it was last heard.
    pub(super) life: Life,
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
    /// Whether the shell was told not to read from this connection.
    pub(super) held: bool,
    /// Whether the client has registered.
    pub(super) stage: Stage,
    /// Present while other connections want the id that this one has.
    pub(super) probe: Option<Box<Probe>>,
    /// The last request, while it can't be answered yet.
    pub(super) waiting: Option<Box<Waiting>>,
}

/// The heartbeat (rule 10).
#[derive(Debug, Clone, Copy)]
pub(super) enum Life {
    /// The last frame arrived then.
    Heard(Instant),
    /// A ping was sent then, and nothing has arrived since.
    Pinged(Instant),
}

/// Whether a client has registered.
#[derive(Debug)]
pub(super) enum Stage {
    /// Not yet; it has to by then.
    New(Instant),
    /// It has an id.
    Registered(Box<Registered>),
}

/// The contents of `register`, and where the client went from there.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) client_id: ClientId,
    /// 0 is old.
    pub(super) protocol: u32,
    pub(super) process: Option<Process>,
    pub(super) place: Place,
    /// The rights of its token, on a server that needs tokens.
    pub(super) pass: Option<Box<Pass>>,
}

impl Registered {
    /// Whether its token names its id, which reserves that id for its user.
    pub(super) fn owns_its_id(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.grant.client_id.as_ref() == Some(&self.client_id))
    }
}

/// One process of a client (rule 7).
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) instance: Instance,
    pub(super) epoch: Epoch,
}

impl Process {
    pub(super) fn new(instance: Instance) -> Self {
        Self { epoch: instance.epoch(), instance }
    }
}

/// Where a registered client is.
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
pub(super) struct Waiting {
    pub(super) on: On,
    /// The message of an old client that made it join a room, to be read again when it is in.
    pub(super) then: Option<ByteString>,
}

/// The event that a request waits for.
#[derive(Debug)]
pub(super) enum On {
    /// A sign of life from the holder of the id, or the end of the time for it (rule 8).
    Holder(ConnId, Join),
    /// The verdict on the token of a `register`.
    Register(Register),
    /// The verdict on the token of a `join`.
    Token(Join),
    /// The verdict on the password of a `join`, which has to match this hash.
    Password(PasswordHash, Join),
}

/// The connections that want the id of another one, which was pinged to see whether it lives.
#[derive(Debug)]
pub(super) struct Probe {
    /// If the holder is still silent then, it loses its id.
    pub(super) until: Instant,
    /// In order of arrival.
    pub(super) challengers: Vec<ConnId>,
}

impl Session {
    pub(super) fn new(now: Instant, ip: IpAddr, room: Option<RoomId>, config: &HubConfig) -> Self {
        Self {
            life: Life::Heard(now),
            due: None,
            ip,
            room,
            bad: 0,
            forbidden: 0,
            held: false,
            stage: Stage::New(after(now, config.register_timeout)),
            probe: None,
            waiting: None,
        }
    }

    pub(super) fn registered(&self) -> Option<&Registered> {
        match &self.stage {
            Stage::New(_) => None,
            Stage::Registered(registered) => Some(registered),
        }
    }

    pub(super) fn registered_mut(&mut self) -> Option<&mut Registered> {
        match &mut self.stage {
            Stage::New(_) => None,
            Stage::Registered(registered) => Some(registered),
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
        let heartbeat = match self.life {
            Life::Heard(at) => after(at, heartbeat(conn, config)),
            Life::Pinged(at) => after(at, config.heartbeat_grace),
        };
        let (stage, grant) = match &self.stage {
            // The time for `register` stands still while its token is being verified.
            Stage::New(until) => (Some(*until).filter(|_| self.waiting.is_none()), None),
            Stage::Registered(registered) => {
                let automatic = match registered.place {
                    Place::Automatic(at) => at,
                    Place::Nowhere | Place::In(_) => None,
                };
                let left = |pass: &Pass| pass.grant.until.saturating_sub(clock.unix(now));
                (automatic, registered.pass.as_ref().map(|pass| after(now, left(pass))))
            }
        };
        let probe = self.probe.as_ref().map(|probe| probe.until);
        [stage, grant, probe].into_iter().flatten().fold(heartbeat, Instant::min)
    }
}

/// How long a connection may be silent before it is pinged: [`HubConfig::heartbeat`], or up to a fifth less.
pub(super) fn heartbeat(conn: ConnId, config: &HubConfig) -> Duration {
    // Fibonacci hashing: numbers in sequence are spread evenly.
    let [.., share] = conn.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    let share = u32::from(share);
    config.heartbeat.saturating_sub(config.heartbeat / SPREAD * share / 256)
}
