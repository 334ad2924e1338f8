//! The setting `ice_servers`: STUN servers, and TURN servers with a fixed password.

use super::IceUrl;
use crate::config::{Loader, Located};
use room_protocol::wire::IceServer;
use serde::Deserialize;
use std::fmt;

/// An entry of `ice_servers`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServerSettings {
    urls: Located<Vec<IceUrl>>,
    username: Option<String>,
    credential: Option<String>,
}

impl fmt::Debug for IceServerSettings {
    /// Omits the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServerSettings").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl IceServerSettings {
    /// Checks the entry. Problems never show the credential.
    pub(super) fn load(self, loader: &mut Loader) -> IceServer {
        let Self { urls, username, credential } = self;
        if urls.value.is_empty() {
            let problem = "must name a server, such as [\"stun:stun.example.org:3478\"]";
            loader.refuse("ice_servers.urls", &urls, problem);
        }
        if username.is_none() || credential.is_none() {
            for url in urls.value.iter().map(IceUrl::as_str).filter(|url| url.starts_with("turn")) {
                let problem =
                    format!("{url:?} needs username and credential: browsers reject it without them");
                loader.refuse("ice_servers.urls", &urls, problem);
            }
        }
        IceServer { urls: urls.value.into_iter().map(IceUrl::into_string).collect(), username, credential }
    }
}
