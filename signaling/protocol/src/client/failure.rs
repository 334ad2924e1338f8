//! Decides which errors and close codes are final because the configuration must change, and explains how. All others are
//! temporary: the client connects again.

use super::ClientConfig;
use crate::wire::{ErrorCode, close};

/// Why a client gave up, and how to correct that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The error code of the server, if there was one.
    pub code: Option<ErrorCode>,
    /// The cause and the remedy.
    pub message: String,
}

/// The failure that follows from an error in answer to `register` or `join`. `None`: a later attempt may succeed.
pub(super) fn of_error(config: &ClientConfig, code: ErrorCode, explanation: &str) -> Option<Failure> {
    let room = &config.room;
    let remedy = match code {
        ErrorCode::Unauthorized => "the server requires a valid token: set a new one".to_owned(),
        ErrorCode::Forbidden => format!(
            "the server does not let this client into room {room:?} as {}: check the password, the token, the room and the client id",
            config.role.as_str()
        ),
        ErrorCode::ClientIdTaken => taken(config),
        ErrorCode::InvalidId => format!(
            "the server does not accept the client id or the room name {room:?}: use at most 128 bytes and no invisible characters"
        ),
        ErrorCode::UnknownRole => {
            format!("the server does not know the role {}: update the server", config.role.as_str())
        }
        ErrorCode::BadMessage => {
            "the server can't read the description of this client: meta may have at most 1 KiB".to_owned()
        }
        _ => return None,
    };
    Some(Failure { code: Some(code), message: with_explanation(remedy, explanation) })
}

/// The failure that follows from a close code. `None`: the client connects again. `last_error` is the error that came
/// before it.
pub(super) fn of_close(
    config: &ClientConfig,
    close_code: u16,
    last_error: Option<(ErrorCode, String)>,
) -> Option<Failure> {
    let (code, remedy) = match close_code {
        close::REPLACED => (
            None,
            "another connection of this process replaced this one: give each client its own instance".to_owned(),
        ),
        close::CLIENT_ID_TAKEN => (Some(ErrorCode::ClientIdTaken), taken(config)),
        close::BAD_MESSAGES => (
            Some(ErrorCode::BadMessage),
            "the server could not read ten messages in a row: update this program or the server".to_owned(),
        ),
        close::UNAUTHORIZED => (
            Some(ErrorCode::Unauthorized),
            "the token is missing, invalid or expired: set a new one".to_owned(),
        ),
        close::TOO_BIG => (
            None,
            "a message exceeded the server's frame limit: offer fewer codecs, or raise the limit on the server"
                .to_owned(),
        ),
        _ => return None,
    };
    let (code, explanation) = match last_error {
        Some((last, explanation)) if code.is_none_or(|code| code == last) => (Some(last), explanation),
        _ => (code, String::new()),
    };
    Some(Failure { code, message: with_explanation(remedy, &explanation) })
}

/// Why a connection ended, if another attempt follows: the last error of the server, otherwise the close code.
pub(super) fn reason(close_code: Option<u16>, last_error: Option<&(ErrorCode, String)>) -> String {
    match (close_code, last_error) {
        (_, Some((code, explanation))) => refusal(*code, explanation),
        (Some(close::SERVICE_RESTART), None) => "the server is restarting".to_owned(),
        (Some(code), None) => format!("the server closed the connection (code {code})"),
        (None, None) => "the connection broke".to_owned(),
    }
}

/// A refusal that may be temporary.
pub(super) fn refusal(code: ErrorCode, explanation: &str) -> String {
    with_explanation(format!("the server refuses this client for now ({})", code.as_str()), explanation)
}

fn taken(config: &ClientConfig) -> String {
    let id = config.client_id.as_ref().map_or("", |id| id.as_str());
    format!(
        "the client id {id:?} is in use by another process in room {:?}: choose another one, or set none and the server chooses one",
        config.room
    )
}

/// Adds the explanation of the server. It is untrusted input, so its length is limited and control characters, which
/// could move the cursor of a terminal, are removed.
fn with_explanation(remedy: String, explanation: &str) -> String {
    let explanation: String = explanation.chars().filter(|c| !c.is_control()).take(200).collect();
    if explanation.is_empty() { remedy } else { format!("{remedy} (the server says: {explanation})") }
}
