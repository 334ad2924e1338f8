//! The shape that the file, the environment and flags have in common. Its types take only what can be right, so that
//! what is wrong is told with its line, or with its flag.

use super::{Config, IceUrl, Loader, Located, StunUrl};
use crate::{
    TrustedProxy,
    auth::{AuthSettings, RoomSettings, load_rooms},
    http::admin::AdminSettings,
    limits::LimitSettings,
    net::tls::{TlsFiles, TlsSettings},
    turn::TurnSettings,
};
use room_protocol::{RoomId, wire::IceServer};
use serde::Deserialize;
use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// What a file, the environment or flags say. `None`: nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// Names that browsers may reach the server by.
    pub allow_hosts: Option<Vec<String>>,
    /// Origins of pages that may connect.
    pub allow_origins: Option<Vec<String>>,
    /// Proxies whose word is taken for where a connection comes from.
    pub trusted_proxies: Option<Vec<TrustedProxy>>,
    /// Where old clients go that join no room.
    pub default_room: Option<DefaultRoom>,
    /// STUN servers.
    pub stun: Option<Vec<StunUrl>>,
    /// ICE servers, as RTCPeerConnection takes them.
    pub ice_servers: Option<Vec<IceServerSettings>>,
    /// How long members may go on talking after the shutdown was announced to them.
    pub drain_seconds: Option<Seconds>,
    /// How log lines look.
    pub log_format: Option<LogFormat>,
    /// What is logged.
    pub log_level: Option<LogLevel>,
    /// The certificate to speak TLS with.
    pub tls: TlsSettings,
    /// Where operators are answered without a token.
    pub metrics_listen: Option<SocketAddr>,
    /// What only operators may see.
    pub admin: AdminSettings,
    /// What there may be at most.
    pub limits: LimitSettings,
    /// TURN servers for which credentials are made.
    pub turn: TurnSettings,
    /// What clients need to register.
    pub auth: AuthSettings,
    /// What holds for rooms.
    pub rooms: Option<Vec<RoomSettings>>,
}

impl Settings {
    /// These settings, and where others say something, those.
    pub(super) fn overridden_by(self, above: Self) -> Self {
        Self {
            listen: above.listen.or(self.listen),
            allow_hosts: above.allow_hosts.or(self.allow_hosts),
            allow_origins: above.allow_origins.or(self.allow_origins),
            trusted_proxies: above.trusted_proxies.or(self.trusted_proxies),
            default_room: above.default_room.or(self.default_room),
            stun: above.stun.or(self.stun),
            ice_servers: above.ice_servers.or(self.ice_servers),
            drain_seconds: above.drain_seconds.or(self.drain_seconds),
            log_format: above.log_format.or(self.log_format),
            log_level: above.log_level.or(self.log_level),
            tls: self.tls.overridden_by(above.tls),
            metrics_listen: above.metrics_listen.or(self.metrics_listen),
            admin: self.admin.overridden_by(above.admin),
            limits: self.limits.overridden_by(above.limits),
            turn: self.turn.overridden_by(above.turn),
            auth: self.auth.overridden_by(above.auth),
            rooms: above.rooms.or(self.rooms),
        }
    }

    /// What the server takes. What is wrong is told to the loader.
    pub(super) fn load(self, loader: &mut Loader<'_>) -> (Config, Option<TlsFiles>) {
        let mut config = Config::default();
        config.listen = self.listen.unwrap_or(config.listen);
        config.allow_hosts = self.allow_hosts.unwrap_or_default();
        config.allow_origins = self.allow_origins.unwrap_or_default();
        config.trusted_proxies = self.trusted_proxies.unwrap_or_default();
        config.drain = self.drain_seconds.map_or(config.drain, Seconds::duration);
        if let Some(room) = self.default_room {
            config.hub.default_room = room.0;
        }
        let stun = self.stun.into_iter().flatten();
        let stun =
            stun.map(|url| IceServer { urls: vec![url.into_string()], username: None, credential: None });
        let full = self.ice_servers.into_iter().flatten().map(|server| server.load(loader));
        config.hub.ice_servers = full.chain(stun).collect();
        config.metrics_listen = self.metrics_listen;
        self.admin.load(&mut config, loader);
        self.limits.load(&mut config, loader);
        self.turn.load(&mut config, loader);
        self.auth.load(&mut config, loader);
        load_rooms(self.rooms.unwrap_or_default(), &mut config, loader);
        let tls_files = self.tls.load(&mut config, loader);
        (config, tls_files)
    }
}

/// Where old clients go that join no room; written as "", they go nowhere.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct DefaultRoom(Option<RoomId>);

impl TryFrom<String> for DefaultRoom {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "" => Ok(Self(None)),
            name => RoomId::new(name)
                .map(|room| Self(Some(room)))
                .map_err(|error| format!("{name:?} can't be a room: {error}")),
        }
    }
}

/// A time, written as a number of seconds, a year at most.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
pub struct Seconds(pub(crate) Duration);

impl Seconds {
    /// More is a mistake, and adding it to the time of a clock could overflow.
    const MAX: Duration = Duration::from_hours(365 * 24);

    pub(crate) fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<f64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        let error = "must be a number of seconds, 0 or more and at most 31536000 (a year), such as 2.5";
        let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration <= Self::MAX);
        duration.map(Self).ok_or(error)
    }
}

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().unwrap_or(f64::NAN).try_into()
    }
}

/// An entry of `ice_servers`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IceServerSettings {
    urls: Located<Vec<IceUrl>>,
    username: Option<String>,
    credential: Option<String>,
}

impl fmt::Debug for IceServerSettings {
    /// Without the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServerSettings").field("urls", &self.urls).finish_non_exhaustive()
    }
}

impl TryFrom<IceServer> for IceServerSettings {
    type Error = String;

    fn try_from(server: IceServer) -> Result<Self, String> {
        let urls: Vec<IceUrl> = server.urls.into_iter().map(IceUrl::try_from).collect::<Result<_, _>>()?;
        Ok(Self { urls: urls.into(), username: server.username, credential: server.credential })
    }
}

impl IceServerSettings {
    /// What is wrong is told without the credential.
    fn load(self, loader: &mut Loader<'_>) -> IceServer {
        let Self { urls, username, credential } = self;
        if urls.value.is_empty() {
            let words = "must name a server, such as [\"stun:stun.example.org:3478\"]";
            loader.refuse("ice_servers.urls", &urls, words);
        }
        if username.is_none() || credential.is_none() {
            for url in urls.value.iter().map(IceUrl::as_str).filter(|url| url.starts_with("turn")) {
                let words = format!("{url:?} needs username and credential: browsers refuse it without");
                loader.refuse("ice_servers.urls", &urls, words);
            }
        }
        IceServer { urls: urls.value.into_iter().map(IceUrl::into_string).collect(), username, credential }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For what collects logs: an object a line.
    Json,
    /// Into systemd's journal, with its fields.
    Journald,
}

/// What is logged: a level, or levels for parts of the program.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct LogLevel(Targets);

impl LogLevel {
    /// As tracing takes it.
    pub fn targets(&self) -> Targets {
        self.0.clone()
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self(Targets::new().with_default(LevelFilter::INFO))
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let advice = |of| {
            format!(
                "{of:?} is neither off, error, warn, info, debug or trace nor a part of the program with one of them, \
                 like room_signaling::log=debug"
            )
        };
        // Targets takes a word that is no level for a part of the program, of which everything is logged.
        let is_no_level = |part: &&str| !part.contains('=') && part.parse::<LevelFilter>().is_err();
        match text.split(',').find(is_no_level) {
            Some(part) => Err(advice(part)),
            None => text.parse().map(Self).map_err(|_| advice(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_is_a_level_or_levels_of_parts() {
        let level = |text: &str| LogLevel::try_from(text.to_owned());
        assert_eq!(level("info").unwrap(), LogLevel::default());
        let targets = level("warn,room_signaling::log=debug").unwrap().targets();
        let enabled = |target, level| targets.would_enable(target, &level);
        assert!(enabled("room_signaling::log", tracing::Level::DEBUG));
        assert!(
            !enabled("room_signaling", tracing::Level::INFO)
                && enabled("room_signaling", tracing::Level::WARN)
        );
        for (text, wrong) in [("loud", "loud"), ("info,verbose", "verbose"), ("room_signaling=loud", "=loud")]
        {
            let error = level(text).unwrap_err();
            assert!(error.contains(wrong) && error.contains("off, error, warn"), "{error}");
        }
    }
}
