//! Parses the messages that are for the server itself, and names what is wrong with them.

use super::{join::Proof, rights::Secret, room::Join, session::Process};
use crate::{
    id::{ClientId, IdError, Instance, RoomId},
    wire::{ErrorCode, Role},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How long `meta` may be, as text.
const MAX_META: usize = 1024;
/// How many bytes of a client's own text an `error` repeats.
const MAX_ECHO: usize = 128;
/// How long the message of an `error` may be, in bytes: parsers quote what they can't read.
const MAX_MESSAGE: usize = 256;

/// Why a request was not granted.
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
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            message = format!("{}…", cut(&message, MAX_MESSAGE)).into();
        }
        Self { code, message, request: None, target_id: None }
    }

    pub(super) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadMessage, message)
    }

    fn id(field: &str, error: IdError) -> Self {
        Self::new(ErrorCode::InvalidId, format!("{field}: {error}"))
    }

    /// Names the type of the message that this answers, unless it is named already.
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
    cut(text, MAX_ECHO).into()
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

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
    let client_id = given(fields.client_id)
        .map(|id| ClientId::new(id).map_err(|error| Refusal::id("client_id", error)))
        .transpose()?;
    let protocol = fields.protocol.unwrap_or_default();
    let parse = if protocol == 0 { Instance::of_old_client } else { Instance::new };
    let instance = given(fields.instance)
        .map(|secret| parse(&secret).map_err(|error| Refusal::id("instance", error)))
        .transpose()?;
    let process = instance.map(Process::new);
    let token = given(fields.token).map(Secret::new);
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

/// Parses a `join`. An old client that names no room means `default_room`.
pub(super) fn join(text: &str, default_room: Option<&RoomId>) -> Result<Join, Refusal> {
    let fields: JoinFields<'_> = fields(text)?;
    let room_id = match (fields.room_id, default_room) {
        (None, None) => return Err(Refusal::bad("no `room_id`")),
        (None, Some(room)) => room.clone(),
        (Some(id), Some(room)) if id.is_empty() => room.clone(),
        (Some(id), _) => RoomId::new(id).map_err(|error| Refusal::id("room_id", error))?,
    };
    let unknown = Refusal::new(ErrorCode::UnknownRole, "a role is `sender` or `receiver`");
    let role = match given(fields.role) {
        None => Role::Receiver,
        Some(word) => Role::from_word(&word).ok_or(unknown)?,
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

/// Empty text counts as absent.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn fields<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::bad(error.to_string()))
}
