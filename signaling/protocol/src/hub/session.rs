//! One connection as the Hub sees it. There may be many and most are idle: what is rare is boxed.

use super::{
    ConnId, HubConfig, after,
    request::Register,
    rights::{Pass, PasswordHash},
    room::Join,
};
use crate::id::{ClientId, Epoch, Instance, RoomId};
use bytestring::ByteString;
use std::{net::IpAddr, time::Instant};

/// How much a connection may say while its last request waits for an answer from elsewhere.
const MAX_DEFERRED: usize = 256;
const MAX_DEFERRED_BYTES: usize = 256 * 1024;

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    /// When it was last heard.
    pub(super) life: Life,
    /// Where it stands in the Hub's deadlines; never later than [`Session::next_due`].
    pub(super) due: Option<Instant>,
    /// Where it comes from.
    pub(super) ip: IpAddr,
    /// How many bad messages came in a row.
    pub(super) bad: u8,
    /// How far it has come.
    pub(super) stage: Stage,
    /// Somebody else wants its id in its room.
    pub(super) probe: Option<Box<Probe>>,
    /// Its last request waits for something.
    pub(super) waiting: Option<Box<Waiting>>,
}

/// The heartbeat (rule 10).
#[derive(Debug, Clone, Copy)]
pub(super) enum Life {
    /// The last frame came then.
    Heard(Instant),
    /// Pinged then, and nothing came since.
    Pinged(Instant),
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Has to register until then.
    New(Instant),
    /// Has a name.
    Registered(Box<Registered>),
}

/// What `register` said, and where the client went from there.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) client_id: ClientId,
    /// 0 is old.
    pub(super) protocol: u32,
    pub(super) process: Option<Process>,
    pub(super) place: Place,
    /// What its token grants; none where none is needed.
    pub(super) pass: Option<Box<Pass>>,
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
    /// In no room yet, but old: joined to the default room with its first relay, or then (rule 11).
    Automatic(Option<Instant>),
    /// In that room.
    In(RoomId),
}

/// A request that can't be answered yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) on: On,
    /// What was said since, to be read in order once it is clear where the client is.
    pub(super) deferred: Vec<ByteString>,
    pub(super) bytes: usize,
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum On {
    /// The holder of the id that it wants, to be silent or not (rule 8).
    Holder(ConnId, Join),
    /// The verdict on the token of a `register`.
    Register(Register),
    /// The verdict on the token of a `join`.
    Token(Join),
    /// The verdict on the password of a `join`, which is asked for by this hash.
    Password(PasswordHash, Join),
}

impl Waiting {
    pub(super) fn new(on: On) -> Self {
        Self { on, deferred: Vec::new(), bytes: 0 }
    }

    /// Keeps a frame for later, if there is space.
    pub(super) fn defer(&mut self, text: ByteString) -> bool {
        let bytes = self.bytes.saturating_add(text.len());
        let fits = bytes <= MAX_DEFERRED_BYTES && self.deferred.len() < MAX_DEFERRED;
        if fits {
            self.bytes = bytes;
            self.deferred.push(text);
        }
        fits
    }
}

/// Those who want the id of a connection that was pinged to see whether it lives.
#[derive(Debug)]
pub(super) struct Probe {
    /// Silent until then, it goes.
    pub(super) until: Instant,
    /// In order of their coming.
    pub(super) challengers: Vec<ConnId>,
}

impl Session {
    pub(super) fn new(now: Instant, ip: IpAddr, config: &HubConfig) -> Self {
        let stage = Stage::New(after(now, config.register_timeout));
        Self { life: Life::Heard(now), due: None, ip, bad: 0, stage, probe: None, waiting: None }
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

    /// When something has to be done for it, if nothing comes before.
    pub(super) fn next_due(&self, config: &HubConfig) -> Instant {
        let heartbeat = match self.life {
            Life::Heard(at) => after(at, config.heartbeat),
            Life::Pinged(at) => after(at, config.heartbeat_grace),
        };
        let (stage, grant) = match &self.stage {
            Stage::New(until) => (Some(*until), None),
            Stage::Registered(registered) => {
                let automatic = match registered.place {
                    Place::Automatic(at) => at,
                    Place::Nowhere | Place::In(_) => None,
                };
                (automatic, registered.pass.as_ref().map(|pass| pass.grant.until))
            }
        };
        let probe = self.probe.as_ref().map(|probe| probe.until);
        [stage, grant, probe].into_iter().flatten().fold(heartbeat, Instant::min)
    }
}
