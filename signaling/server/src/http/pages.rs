//! What a plain GET gets: the viewer, and what operators and their programs look at.

use super::{
    answer::{Answer, Body},
    metrics, viewer,
};
use crate::{driver::shell::Shell, net::door::Door};

/// Answers a request for `path` that is no WebSocket's beginning. `authorization`: that header.
pub(crate) fn page(
    shell: &Shell,
    door: Door,
    path: &str,
    authorization: Option<&str>,
) -> Result<Answer, Answer> {
    match path {
        "/healthz" => Ok(status("ok")),
        "/readyz" if shell.is_draining() => Err(status("draining").with_status(503).later()),
        "/readyz" => Ok(status("ready")),
        "/metrics" => {
            check_operator(shell, door, authorization)?;
            let text = shell.metrics_text().into_bytes();
            Ok(Answer::current(metrics::CONTENT_TYPE, Body::Bytes(text.into())))
        }
        "/api/rooms" => {
            check_operator(shell, door, authorization)?;
            Ok(Answer::current("application/json", Body::Rooms))
        }
        _ => {
            let file = viewer::file(path).filter(|_| door == Door::Public);
            let (content, content_type) = file.ok_or_else(no_such_page)?;
            Ok(Answer::file(content_type, content))
        }
    }
}

/// Where no token is set, nobody is told that there is something to see.
fn check_operator(shell: &Shell, door: Door, authorization: Option<&str>) -> Result<(), Answer> {
    if door == Door::Operators {
        return Ok(());
    }
    check_token(shell, authorization)
}

/// Changes need the token on the operators' address, too.
pub(super) fn check_token(shell: &Shell, authorization: Option<&str>) -> Result<(), Answer> {
    let config = shell.config();
    let token = config.admin_token.as_ref().ok_or_else(no_such_page)?;
    if authorization.is_some_and(|shown| token.is_shown_by(shown)) {
        return Ok(());
    }
    let refusal = Answer::refusal(401, "This needs the admin token: `Authorization: Bearer TOKEN`.");
    Err(refusal.with_headers("Cache-Control: no-store\r\nWWW-Authenticate: Bearer\r\n"))
}

fn no_such_page() -> Answer {
    Answer::refusal(404, "There is no such page.")
}

fn status(word: &str) -> Answer {
    let body = format!("{{\"status\":\"{word}\"}}\n").into_bytes();
    Answer::current("application/json", Body::Bytes(body.into()))
}
