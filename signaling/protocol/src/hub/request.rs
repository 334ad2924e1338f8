//! Parses the requests to the server itself, `register` and `join`, and reports what is wrong with them.

use super::{
    refusal::Refusal,
    rights::{Pass, PasswordHash, Secret},
};
use crate::{
    id::{ClientId, Epoch, Instance, RoomId},
    wire::{ErrorCode, Role},
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest `meta`, in bytes of JSON.
const MAX_META: usize = 1024;

/// A well-formed `register`.
#[derive(Debug)]
pub(super) struct Register {
    /// `None`: the server chooses one.
    pub(super) client_id: Option<ClientId>,
    /// 0 is old.
    pub(super) protocol: u32,
    pub(super) process: Option<Process>,
    pub(super) token: Option<Secret>,
}

/// One process of a client (rule 7).
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) instance: Instance,
    pub(super) epoch: Epoch,
}

impl Process {
    fn new(instance: Instance) -> Self {
        Self { epoch: instance.epoch(), instance }
    }
}

/// A request to enter a room.
#[derive(Debug, Clone)]
pub(super) struct Join {
    pub(super) room_id: RoomId,
    pub(super) role: Role,
    pub(super) meta: Option<Box<RawValue>>,
    /// By rule 11, without a `join`: the client receives relays and errors only.
    pub(super) automatic: bool,
    pub(super) proof: Proof,
}

impl Join {
    /// The join of an old client that sends none (rule 11).
    pub(super) fn automatic(room_id: RoomId, role: Role) -> Self {
        Self { room_id, role, meta: None, automatic: true, proof: Proof::default() }
    }
}

/// The token and the password of a `join`, and the part of them that has been verified.
#[derive(Debug, Clone, Default)]
pub(super) struct Proof {
    pub(super) token: Option<Secret>,
    /// The rights of that token, once it is verified. They replace those of the client when it enters the room.
    pub(super) pass: Option<Box<Pass>>,
    pub(super) password: Option<Secret>,
    /// The hash against which the password was verified.
    pub(super) passed: Option<PasswordHash>,
}

#[derive(Deserialize)]
struct RegisterFields {
    client_id: Option<String>,
    protocol: Option<u32>,
    instance: Option<String>,
    token: Option<String>,
}

/// Parses a `register`.
pub(super) fn register(text: &str) -> Result<Register, Refusal> {
    let fields: RegisterFields = fields(text)?;
    let client_id = non_empty(fields.client_id)
        .map(|id| ClientId::new(id).map_err(|error| Refusal::invalid_id("client_id", error)))
        .transpose()?;
    let protocol = fields.protocol.unwrap_or_default();
    let parse = if protocol == 0 { Instance::of_old_client } else { Instance::new };
    let instance = non_empty(fields.instance)
        .map(|secret| parse(&secret).map_err(|error| Refusal::invalid_id("instance", error)))
        .transpose()?;
    let process = instance.map(Process::new);
    let token = non_empty(fields.token).map(Secret::new);
    Ok(Register { client_id, protocol, process, token })
}

#[derive(Deserialize)]
struct JoinFields<'a> {
    room_id: Option<String>,
    role: Option<String>,
    token: Option<String>,
    password: Option<String>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
}

/// Parses a `join`. `default_room` is the room of an old client that names none.
pub(super) fn join(text: &str, default_room: Option<&RoomId>) -> Result<Join, Refusal> {
    let fields: JoinFields<'_> = fields(text)?;
    let room_id = match (fields.room_id, default_room) {
        (None, None) => return Err(Refusal::bad("`room_id` is missing")),
        (None, Some(room)) => room.clone(),
        (Some(id), Some(room)) if id.is_empty() => room.clone(),
        (Some(id), _) => RoomId::new(id).map_err(|error| Refusal::invalid_id("room_id", error))?,
    };
    let unknown = Refusal::new(ErrorCode::UnknownRole, "`role` must be `sender` or `receiver`");
    let role = match non_empty(fields.role) {
        None => Role::Receiver,
        Some(name) => Role::from_name(&name).ok_or(unknown)?,
    };
    if fields.meta.is_some_and(|meta| meta.get().len() > MAX_META) {
        return Err(Refusal::bad(format!("`meta` must have at most {MAX_META} bytes of JSON")));
    }
    let proof = Proof {
        token: non_empty(fields.token).map(Secret::new),
        password: non_empty(fields.password).map(Secret::new),
        ..Proof::default()
    };
    Ok(Join { room_id, role, meta: fields.meta.map(ToOwned::to_owned), automatic: false, proof })
}

/// An empty text counts as absent.
fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn fields<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::bad(error.to_string()))
}
