//! The signaling properties of both elements. To add one: a field in [`SignalingSettings`] and a row in [`room_rows`] or
//! [`ice_rows`].

use super::status;
use crate::{
    peer::{IceConfig, check_url},
    property::{Property, PropertyTable, field},
};
use gst::{glib, prelude::*};
use gst_webrtc::WebRTCICETransportPolicy;
use room_signaling_client::{
    ClientConfig, Options,
    protocol::{ClientId, Instance, RoomId},
    wire::{DEFAULT_ROOM, IceServer, Role},
};
use std::{fmt, path::PathBuf, sync::LazyLock};

const DEFAULT_URI: &str = "ws://127.0.0.1:8765";
/// The maximum size of `meta` in the protocol.
const MAX_META_BYTES: usize = 1024;

/// The values of the signaling properties of one element.
#[derive(Clone)]
pub(crate) struct SignalingSettings {
    pub(crate) uri: String,
    pub(crate) room: String,
    pub(crate) client_id: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) meta: Option<String>,
    pub(crate) tls_ca_file: Option<String>,
    pub(crate) ice_servers: Option<String>,
    pub(crate) stun_server: Option<String>,
    pub(crate) turn_servers: Vec<String>,
    pub(crate) ice_transport_policy: WebRTCICETransportPolicy,
    pub(crate) min_rtp_port: u16,
    pub(crate) max_rtp_port: u16,
    /// The secret that lets a reconnect replace its own dead connection. Each element has its own, so that two elements
    /// with the same `client-id` do not replace each other.
    instance: Instance,
}

impl fmt::Debug for SignalingSettings {
    /// Omits secrets, including the credentials of TURN servers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalingSettings")
            .field("uri", &self.server())
            .field("room", &self.room)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

impl Default for SignalingSettings {
    fn default() -> Self {
        let ice = IceConfig::default();
        Self {
            uri: DEFAULT_URI.to_owned(),
            room: DEFAULT_ROOM.to_owned(),
            client_id: None,
            token: None,
            password: None,
            meta: None,
            tls_ca_file: None,
            ice_servers: None,
            stun_server: None,
            turn_servers: Vec::new(),
            ice_transport_policy: ice.policy,
            min_rtp_port: ice.min_rtp_port,
            max_rtp_port: ice.max_rtp_port,
            instance: random_instance(),
        }
    }
}

/// A new instance secret. Each one appears as a separate process to other clients.
pub(crate) fn random_instance() -> Instance {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("random numbers of the kernel, which do not fail on Linux");
    Instance::from_random(bytes)
}

/// The signaling properties of both elements.
static PROPERTIES: LazyLock<PropertyTable<SignalingSettings>> = LazyLock::new(table);

fn table() -> PropertyTable<SignalingSettings> {
    PropertyTable::new(room_rows().into_iter().chain(ice_rows()).collect())
}

fn text(
    name: &'static str,
    nick: &'static str,
    blurb: &'static str,
) -> glib::ParamSpecStringBuilder<'static> {
    glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready()
}

fn room_rows() -> Vec<Property<SignalingSettings>> {
    vec![
        field!(
            text(
                "signaling-uri",
                "Signaling URI",
                "WebSocket URI of the signaling server, such as ws://host:8765, or wss://host/path for TLS. The default \
                 port is 8765; in a URI with a path it is that of the scheme, 80 or 443",
            )
            .default_value(DEFAULT_URI),
            uri
        ),
        field!(
            text("room", "Room", "Name of the room to join: 1 to 128 bytes of UTF-8").default_value(DEFAULT_ROOM),
            room
        ),
        field!(
            text(
                "client-id",
                "Client id",
                "Unique id of this element in the room (null: assigned by the signaling server, and kept across reconnects)",
            ),
            client_id
        ),
        field!(
            text(
                "token",
                "Token",
                "Token for a server that requires one (null: none). A new one that is set in PLAYING extends the stay in the \
                 room",
            )
            .mutable_playing(),
            token
        ),
        field!(text("password", "Password", "Password of the room (null: none)"), password),
        field!(
            text(
                "meta",
                "Meta",
                "Description of this client for the other members of the room: JSON of at most 1024 bytes (null: none)",
            ),
            meta
        ),
        field!(
            text(
                "tls-ca-file",
                "TLS CA file",
                "PEM file of certificate authorities to trust in addition to those of the system, for wss (null: none)",
            ),
            tls_ca_file
        ),
    ]
}

fn ice_rows() -> Vec<Property<SignalingSettings>> {
    let port = |name, nick, blurb, default: u16| {
        let spec = glib::ParamSpecUInt::builder(name).nick(nick).blurb(blurb).mutable_ready();
        spec.maximum(u16::MAX.into()).default_value(default.into())
    };
    vec![
        field!(
            text(
                "ice-servers",
                "ICE servers",
                "STUN and TURN servers in the format of RTCPeerConnection, as JSON such as \
                 [{\"urls\":[\"turn:host:3478\"],\"username\":\"u\",\"credential\":\"p\"}] (null: use the servers provided \
                 by the signaling server)",
            ),
            ice_servers
        ),
        field!(
            text(
                "stun-server",
                "STUN server",
                "STUN server, as stun://host:port, to use instead of those in ice-servers (null: use those in ice-servers)",
            ),
            stun_server
        ),
        field!(
            gst::ParamSpecArray::builder("turn-servers")
                .nick("TURN servers")
                .blurb(
                    "TURN servers to use in addition to those in ice-servers: <\"turn://user:password@host:port\", ...>. User \
                     and password are percent-encoded; ?transport=tcp at the end selects TCP (default: none)",
                )
                .element_spec(
                    &glib::ParamSpecString::builder("turn-server")
                        .nick("TURN server")
                        .blurb("turn://user:password@host:port")
                        .build(),
                )
                .mutable_ready(),
            turn_servers
        ),
        field!(
            glib::ParamSpecEnum::builder_with_default("ice-transport-policy", WebRTCICETransportPolicy::All)
                .nick("ICE transport policy")
                .blurb("Whether media may use direct connections to peers (all) or TURN servers only (relay)")
                .mutable_ready(),
            ice_transport_policy
        ),
        field!(
            port("min-rtp-port", "Lowest RTP port", "Lowest local UDP port for media (0: any port)", 0),
            min_rtp_port
        ),
        field!(
            port("max-rtp-port", "Highest RTP port", "Highest local UDP port for media", u16::MAX),
            max_rtp_port
        ),
    ]
}

/// The specifications of the signaling properties, including the read-only ones, for one class of elements.
pub(crate) fn properties() -> Vec<glib::ParamSpec> {
    table().into_specs().chain(status::table().into_specs()).collect()
}

impl SignalingSettings {
    /// Sets a property. False if this is not a writable signaling property.
    pub(crate) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        PROPERTIES.set(self, name, value)
    }

    /// The value of a property. `None` if this is not a writable signaling property.
    pub(crate) fn get(&self, name: &str) -> Option<glib::Value> {
        PROPERTIES.get(self, name)
    }

    /// The signaling server in logs and messages: its address without the query, which may contain a secret.
    pub(crate) fn server(&self) -> &str {
        self.uri.split(['?', '#']).next().unwrap_or_default()
    }

    /// The options of the signaling client. The error names the invalid property and a valid value.
    pub(crate) fn options(&self, role: Role) -> Result<Options, String> {
        let scheme = self.uri.split_once("://").map(|(scheme, _)| scheme.trim().to_ascii_lowercase());
        if scheme.is_some_and(|scheme| scheme != "ws" && scheme != "wss") {
            return Err(format!(
                "signaling-uri is {:?}: it must begin with ws:// or wss://, such as {DEFAULT_URI}",
                self.server()
            ));
        }
        self.check_ice()?;
        let client_id = self
            .client_id
            .as_deref()
            .map(|id| ClientId::new(id).map_err(|error| format!("client-id is {id:?}: {error}")))
            .transpose()?;
        Ok(Options {
            uri: self.uri.clone(),
            tls_ca_file: self.tls_ca_file.as_ref().map(PathBuf::from),
            token_source: None,
            client: ClientConfig {
                client_id,
                room: RoomId::new(&self.room).map_err(|error| format!("room is {:?}: {error}", self.room))?,
                role,
                instance: self.instance.clone(),
                token: self.token.clone(),
                token_renews: false,
                password: self.password.clone(),
                meta: self.parsed_meta()?,
            },
        })
    }

    fn parsed_meta(&self) -> Result<Option<serde_json::Value>, String> {
        let Some(text) = &self.meta else { return Ok(None) };
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
            format!("meta is {text:?}, which is not JSON: {error}; write for example \"{{}}\"")
        })?;
        match value.to_string().len() {
            0..=MAX_META_BYTES => Ok(Some(value)),
            bytes => Err(format!("meta has {bytes} bytes, at most {MAX_META_BYTES} are allowed")),
        }
    }

    fn check_ice(&self) -> Result<(), String> {
        if let Some(url) = &self.stun_server
            && let Some(reason) = wrong_url(url, &["stun"])
        {
            return Err(format!("stun-server is {url:?}: {reason}; write it as stun://host:port"));
        }
        for url in &self.turn_servers {
            if let Some(reason) = wrong_url(url, &["turn", "turns"]) {
                let shown = without_password(url);
                return Err(format!(
                    "turn-servers has {shown:?}: {reason}; write it as turn://user:password@host:port"
                ));
            }
        }
        let servers = self.parsed_ice_servers()?.unwrap_or_default();
        for url in servers.iter().flat_map(|server| &server.urls) {
            if let Some(reason) = wrong_url(url, &["stun", "stuns", "turn", "turns"]) {
                let shown = without_password(url);
                return Err(format!(
                    "ice-servers has {shown:?}: {reason}; write it as stun:host:port or turn:host:port"
                ));
            }
        }
        if self.min_rtp_port > self.max_rtp_port {
            return Err(format!(
                "min-rtp-port is {}, which is above max-rtp-port, {}",
                self.min_rtp_port, self.max_rtp_port
            ));
        }
        Ok(())
    }

    fn parsed_ice_servers(&self) -> Result<Option<Vec<IceServer>>, String> {
        let parse = |text| {
            serde_json::from_str(text).map_err(|error| {
                format!("ice-servers is not a JSON list like [{{\"urls\":[\"stun:host:3478\"]}}]: {error}")
            })
        };
        self.ice_servers.as_deref().map(parse).transpose()
    }

    /// The ICE configuration, given the servers that the signaling server provides.
    pub(crate) fn ice(&self, from_server: &[IceServer]) -> IceConfig {
        IceConfig {
            // `options` has already refused an invalid list.
            servers: self.parsed_ice_servers().ok().flatten().unwrap_or_else(|| from_server.to_vec()),
            stun_server: self.stun_server.clone(),
            turn_servers: self.turn_servers.clone(),
            policy: self.ice_transport_policy,
            min_rtp_port: self.min_rtp_port,
            max_rtp_port: self.max_rtp_port,
        }
    }
}

/// Why the URL of an ICE server is invalid. `None` if it is valid.
fn wrong_url(url: &str, schemes: &[&str]) -> Option<&'static str> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
    if !schemes.contains(&scheme) {
        return Some("it does not begin with the name of a protocol that is usable here");
    }
    check_url(url).err()
}

/// The URL without its user and password.
fn without_password(url: &str) -> String {
    match (url.split_once(':'), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_writable_property_can_be_set_and_read_back() {
        gst::init().expect("GStreamer");
        let mut settings = SignalingSettings::default();
        for spec in properties().iter().filter(|spec| spec.flags().contains(glib::ParamFlags::WRITABLE)) {
            let name = spec.name();
            let default = settings.get(name).unwrap_or_else(|| panic!("{name} has no value"));
            // GStreamer gives every list the default null.
            if name != "turn-servers" {
                let documented = spec.default_value();
                assert_eq!(
                    default.serialize().ok(),
                    documented.serialize().ok(),
                    "{name} has another default"
                );
            }
            let value = match name {
                "turn-servers" => gst::Array::new(["turn://u:p@h:1"]).to_value(),
                "ice-transport-policy" => WebRTCICETransportPolicy::Relay.to_value(),
                "min-rtp-port" | "max-rtp-port" => 40_000u32.to_value(),
                _ => "客厅".to_value(),
            };
            assert!(settings.set(name, &value), "{name} can't be set");
            let back = settings.get(name).unwrap_or_else(|| panic!("{name} has no value"));
            assert_eq!(back.serialize().ok(), value.serialize().ok(), "{name}");
        }
        assert!(!settings.set("no-such", &"".to_value()));
        assert!(settings.get("no-such").is_none());
    }

    #[test]
    fn the_list_of_turn_servers_can_be_written_in_gst_launch() {
        gst::init().expect("GStreamer");
        let specs = properties();
        let spec = specs.iter().find(|spec| spec.name() == "turn-servers").expect("the property");
        for (text, uris) in [
            ("<turn://a:3478,turn://b>", ["turn://a:3478", "turn://b"]),
            (
                "<\"turn://u:p%40@a\", \"turns://u:p@b?transport=tcp\">",
                ["turn://u:p%40@a", "turns://u:p@b?transport=tcp"],
            ),
        ] {
            let value = glib::Value::deserialize_with_pspec(text, spec).expect("a list");
            let mut settings = SignalingSettings::default();
            settings.set("turn-servers", &value);
            assert_eq!(settings.turn_servers, uris);
        }
    }

    #[test]
    fn an_error_names_the_property_and_a_right_value() {
        gst::init().expect("GStreamer");
        let wrong = |name: &str, value: &str| {
            let mut settings = SignalingSettings::default();
            assert!(settings.set(name, &value.to_value()), "{name}");
            settings.options(Role::Sender).expect_err(name)
        };
        assert!(wrong("signaling-uri", "http://host?key=secret").contains("ws://"));
        assert!(!wrong("signaling-uri", "http://host?key=secret").contains("secret"));
        assert!(wrong("room", " x").contains("white space"));
        assert!(wrong("client-id", "a\u{200B}b").contains("U+200B"));
        assert!(wrong("meta", "{").contains("not JSON"));
        assert!(wrong("meta", &format!("\"{}\"", "x".repeat(1023))).contains("1025 bytes"));
        assert!(wrong("ice-servers", "{}").contains("ice-servers"));
        assert!(wrong("stun-server", "stun.example").contains("stun://"));
        assert!(wrong("stun-server", "stun://host:99999").contains("stun://"));
        for urls in ["stun:", "http://h", "turn:h?transport=sctp", "h:3478", "turn:[::1"] {
            let error = wrong("ice-servers", &format!("[{{\"urls\":[\"stun:good\",\"{urls}\"]}}]"));
            assert!(error.contains(urls) && error.contains("stun:host:port"), "{error}");
        }
        let mut settings = SignalingSettings::default();
        settings.set("turn-servers", &gst::Array::new(["turn://good", "turn://u:secret@h:0"]).to_value());
        let error = settings.options(Role::Sender).expect_err("a port out of range");
        assert!(
            error.contains("turn-servers") && error.contains("h:0") && !error.contains("secret"),
            "{error}"
        );
        // A TURN server over TLS is not used, and is not a reason to refuse the others.
        settings.set("turn-servers", &gst::Array::new(["turns://u:p@h:5349", "turn://u:p@h"]).to_value());
        settings.options(Role::Sender).expect("the second one is usable");
        let mut settings = SignalingSettings::default();
        settings.set("min-rtp-port", &2u32.to_value());
        settings.set("max-rtp-port", &1u32.to_value());
        assert!(settings.options(Role::Sender).expect_err("ports").contains("min-rtp-port"));
    }

    #[test]
    fn an_empty_value_means_the_default_and_each_element_has_its_own_secret() {
        gst::init().expect("GStreamer");
        let mut settings = SignalingSettings::default();
        settings.set("client-id", &"".to_value());
        settings.set("room", &None::<String>.to_value());
        let options = settings.options(Role::Receiver).expect("options");
        assert_eq!(options.client.client_id, None);
        assert_eq!(options.client.room.as_str(), DEFAULT_ROOM);
        assert!(
            options.client.instance == settings.options(Role::Receiver).expect("options").client.instance
        );
        assert!(settings.instance != SignalingSettings::default().instance);
    }

    #[test]
    fn ice_servers_of_the_property_go_before_those_of_the_server() {
        gst::init().expect("GStreamer");
        let theirs =
            vec![IceServer { urls: vec!["stun:theirs".to_owned()], username: None, credential: None }];
        let mut settings = SignalingSettings::default();
        assert_eq!(settings.ice(&theirs).servers, theirs);
        settings.set("ice-servers", &r#"[{"urls":["stun:mine"]}]"#.to_value());
        assert_eq!(
            settings.ice(&theirs).servers.first().map(|server| server.urls.clone()),
            Some(vec!["stun:mine".to_owned()])
        );
        settings.set("ice-servers", &"[]".to_value());
        assert!(settings.ice(&theirs).servers.is_empty());
    }

    #[test]
    fn logs_show_no_secret() {
        gst::init().expect("GStreamer");
        let mut settings = SignalingSettings::default();
        for name in ["token", "password", "ice-servers"] {
            settings.set(name, &"secret".to_value());
        }
        settings.set("turn-servers", &gst::Array::new(["turn://u:secret@h:1"]).to_value());
        settings.set("signaling-uri", &"ws://host/ws?key=secret".to_value());
        let text = format!("{settings:?}");
        assert!(text.contains("ws://host/ws") && !text.contains("secret"), "{text}");
    }
}
