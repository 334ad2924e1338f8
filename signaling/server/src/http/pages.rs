//! The routes of plain GET requests: health, metrics, rooms, and the files of the viewer page.

use super::{
    response::{Body, Response},
    site::Site,
    viewer,
};
use crate::{context::ServerContext, metrics, net::door::Door};

/// The response to a GET of `path`, below the base path. `authorization` is the header of that name.
pub(super) fn page(
    site: &Site,
    door: Door,
    path: &str,
    authorization: Option<&str>,
) -> Result<Response, Response> {
    match path {
        "/healthz" => Ok(status("ok")),
        "/readyz" if site.driver.is_draining() => Err(status("draining").with_status(503).retry_later()),
        "/readyz" => Ok(status("ready")),
        "/metrics" => {
            check_operator(&site.context, door, authorization)?;
            let text = site.metrics_text().into_bytes();
            Ok(Response::current(metrics::CONTENT_TYPE, Body::Bytes(text.into())))
        }
        "/api/rooms" => {
            check_operator(&site.context, door, authorization)?;
            Ok(Response::current("application/json", Body::Rooms))
        }
        _ => {
            let file = viewer::file(path).filter(|_| door == Door::Public);
            let (content, content_type) = file.ok_or_else(no_such_page)?;
            Ok(Response::file(content_type, content))
        }
    }
}

/// Checks that the request may read what only operators may: at the operators' door, or with the admin token. If no token
/// is configured, the page does not exist.
fn check_operator(context: &ServerContext, door: Door, authorization: Option<&str>) -> Result<(), Response> {
    if door == Door::Operators {
        return Ok(());
    }
    check_token(context, authorization)
}

/// Checks the admin token. Changes need it at the operators' door, too.
pub(super) fn check_token(context: &ServerContext, authorization: Option<&str>) -> Result<(), Response> {
    let config = context.config();
    let token = config.admin_token.as_ref().ok_or_else(no_such_page)?;
    if authorization.is_some_and(|shown| token.is_in(shown)) {
        return Ok(());
    }
    let refusal =
        Response::refusal(401, "This request needs the admin token: `Authorization: Bearer TOKEN`.");
    Err(refusal.with_headers("Cache-Control: no-store\r\nWWW-Authenticate: Bearer\r\n"))
}

fn no_such_page() -> Response {
    Response::refusal(404, "There is no such page.")
}

fn status(word: &str) -> Response {
    let body = format!("{{\"status\":\"{word}\"}}\n").into_bytes();
    Response::current("application/json", Body::Bytes(body.into()))
}
