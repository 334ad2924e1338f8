//! Reads the messages that are for the server itself, and says what is wrong with them.

use super::{
    rights::Secret,
    room::{Join, Proof},
    session::Process,
};
use crate::{
    id::{ClientId, IdError, Instance, RoomId},
    wire::{ErrorCode, Role},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How long `meta` may be, as text.
const MAX_META: usize = 1024;
/// How much of a word of the client's own an `error` repeats.
const MAX_ECHO: usize = 128;

/// Why something was not done.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: Cow<'static, str>,
    /// The type of the message that it answers.
    pub(super) request: Option<String>,
    pub(super) target_id: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), request: None, target_id: None }
    }

    pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadMessage, message)
    }

    fn id(field: &str, error: IdError) -> Self {
        Self::new(ErrorCode::InvalidId, format!("{field}: {error}"))
    }

    /// Names the message that this answers, unless that is done.
    pub(super) fn of(mut self, request: &str) -> Self {
        self.request.get_or_insert_with(|| echo(request));
        self
    }

    pub(super) fn target(mut self, target_id: &str) -> Self {
        self.target_id = Some(echo(target_id));
        self
    }
}

fn echo(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_ECHO)].into()
}

/// A `register` that is in order.
#[derive(Debug)]
pub(super) struct Register {
    /// None: make one.
    pub(super) client_id: Option<ClientId>,
    /// 0 is old.
    pub(super) protocol: u32,
    pub(super) process: Option<Process>,
    pub(super) token: Option<Secret>,
}

#[derive(Deserialize)]
struct RegisterFields {
    client_id: Option<String>,
    protocol: Option<u32>,
    instance: Option<String>,
    token: Option<String>,
}

/// Reads a `register`.
pub(super) fn register(text: &str) -> Result<Register, Refusal> {
    let fields: RegisterFields = fields(text)?;
    let client_id = given(fields.client_id)
        .map(|id| ClientId::new(id).map_err(|error| Refusal::id("client_id", error)))
        .transpose()?;
    let instance = given(fields.instance)
        .map(|secret| Instance::new(&secret).map_err(|error| Refusal::id("instance", error)))
        .transpose()?;
    let process = instance.map(Process::new);
    let token = given(fields.token).map(Secret::new);
    Ok(Register { client_id, protocol: fields.protocol.unwrap_or_default(), process, token })
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

/// Reads a `join`. Old clients that name no room mean `default_room`.
pub(super) fn join(text: &str, default_room: Option<&RoomId>) -> Result<Join, Refusal> {
    let fields: JoinFields<'_> = fields(text)?;
    let room_id = match (fields.room_id, default_room) {
        (None, None) => return Err(Refusal::bad("no `room_id`")),
        (None, Some(room)) => room.clone(),
        (Some(id), Some(room)) if id.is_empty() => room.clone(),
        (Some(id), _) => RoomId::new(id).map_err(|error| Refusal::id("room_id", error))?,
    };
    let role = match given(fields.role).as_deref() {
        None | Some("receiver") => Role::Receiver,
        Some("sender") => Role::Sender,
        Some(_) => return Err(Refusal::new(ErrorCode::UnknownRole, "a role is `sender` or `receiver`")),
    };
    if fields.meta.is_some_and(|meta| meta.get().len() > MAX_META) {
        return Err(Refusal::bad(format!("`meta` has at most {MAX_META} bytes")));
    }
    let proof = Proof {
        token: given(fields.token).map(Secret::new),
        password: given(fields.password).map(Secret::new),
        ..Proof::default()
    };
    Ok(Join { room_id, role, meta: fields.meta.map(ToOwned::to_owned), automatic: false, proof })
}

/// Empty means absent.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn fields<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::bad(error.to_string()))
}
