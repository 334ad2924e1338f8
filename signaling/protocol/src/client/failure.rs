//! Which refusals mean that the configuration must change, and the words that say how.

use super::ClientConfig;
use crate::wire::{ErrorCode, close};

/// Why a Client gave up, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The code on the wire where there was one.
    pub code: Option<ErrorCode>,
    /// What happened and what to do.
    pub message: String,
}

/// For an error that answers `register` or `join`; `None` if trying again later may help.
pub(super) fn of_error(config: &ClientConfig, code: ErrorCode, words: &str) -> Option<Failure> {
    let room = &config.room;
    let what_to_do = match code {
        ErrorCode::Unauthorized => "the server wants a valid token: set a fresh one".to_owned(),
        ErrorCode::Forbidden => format!(
            "the server does not let this client into room {room:?} as {}: check password, token, room and client id",
            config.role.as_str()
        ),
        ErrorCode::ClientIdTaken => taken(config),
        ErrorCode::InvalidId => format!(
            "the server does not accept the client id or the room name {room:?}: at most 128 bytes, nothing invisible"
        ),
        ErrorCode::UnknownRole => {
            format!("the server does not know the role {}: update the server", config.role.as_str())
        }
        ErrorCode::BadMessage => {
            "the server can't read what this client says of itself: meta may be 1 KiB at most".to_owned()
        }
        _ => return None,
    };
    Some(Failure { code: Some(code), message: with_server_words(what_to_do, words) })
}

/// For a close code; `None` if the client shall connect again. `said` is the error that came before it.
pub(super) fn of_close(
    config: &ClientConfig,
    close_code: u16,
    said: Option<(ErrorCode, String)>,
) -> Option<Failure> {
    let (code, what_to_do) = match close_code {
        close::REPLACED => (
            None,
            "another connection of this process took its place: give each client its own instance".to_owned(),
        ),
        close::CLIENT_ID_TAKEN => (Some(ErrorCode::ClientIdTaken), taken(config)),
        close::BAD_MESSAGES => (
            Some(ErrorCode::BadMessage),
            "the server could not read ten messages in a row: update this program or the server".to_owned(),
        ),
        close::UNAUTHORIZED => (
            Some(ErrorCode::Unauthorized),
            "the token is missing, wrong or expired: set a fresh one".to_owned(),
        ),
        close::TOO_BIG => (
            None,
            "a message was over the server's frame limit: offer fewer codecs, or raise the limit there"
                .to_owned(),
        ),
        _ => return None,
    };
    let (code, words) = match said {
        Some((said, words)) if code.is_none_or(|code| code == said) => (Some(said), words),
        _ => (code, String::new()),
    };
    Some(Failure { code, message: with_server_words(what_to_do, &words) })
}

/// Why a connection ended that another attempt follows: the last error of the server, or else the close code.
pub(super) fn reason(close_code: Option<u16>, said: Option<&(ErrorCode, String)>) -> String {
    match (close_code, said) {
        (_, Some((code, words))) => refusal(*code, words),
        (Some(close::SERVICE_RESTART), None) => "the server is restarting".to_owned(),
        (Some(code), None) => format!("the server closed the connection (code {code})"),
        (None, None) => "the connection broke".to_owned(),
    }
}

/// A refusal that may be temporary.
pub(super) fn refusal(code: ErrorCode, words: &str) -> String {
    with_server_words(format!("the server refuses this client for now ({code:?})"), words)
}

fn taken(config: &ClientConfig) -> String {
    let id = config.client_id.as_ref().map_or("", |id| id.as_str());
    format!(
        "the client id {id:?} is in use by another process in room {:?}: choose another, or none to be given one",
        config.room
    )
}

/// The server's words are input: a reasonable length, and nothing that moves a terminal's cursor.
fn with_server_words(what_to_do: String, words: &str) -> String {
    let words: String = words.chars().filter(|c| !c.is_control()).take(200).collect();
    if words.is_empty() { what_to_do } else { format!("{what_to_do} (the server says: {words})") }
}
