//! The options of a client. They are checked before the first attempt, so that a mistake is reported immediately, with
//! its fix.

use crate::ClientConfig;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use room_protocol::wire::DEFAULT_PORT;
use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig as TlsConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_tungstenite::tungstenite::http::Uri;

/// The address of the server, and the identity of the client.
#[derive(Debug, Clone)]
pub struct Options {
    /// `ws://host:port/path` or `wss://host:port/path`. The default scheme is `ws`. An IPv6 address is written in brackets.
    ///
    /// The default port of an address without a path (`ws://host`) is 8765, the default of the server. An address with a
    /// path (`wss://host/ws`) leads to a proxy, so its default port is that of the scheme, 443 or 80.
    ///
    /// The client adds the room to the query (`?room=living_room`), so that a load balancer can route by it. It keeps a
    /// query of the address.
    pub uri: String,
    /// A PEM file of certificate authorities to trust in addition to those of the system, for `wss`.
    pub tls_ca_file: Option<PathBuf>,
    /// The identity of this client and its room.
    pub client: ClientConfig,
    /// Provides a token before each connection, for servers whose tokens are short-lived. It replaces the token in `client`.
    /// With a source, an expired token is not a failure.
    pub token_source: Option<Arc<dyn TokenSource>>,
}

impl Options {
    /// Options that trust the certificate authorities of the system only.
    pub fn new(uri: impl Into<String>, client: ClientConfig) -> Self {
        Self { uri: uri.into(), tls_ca_file: None, client, token_source: None }
    }
}

/// A source of fresh tokens, such as a file that is renewed or a service that issues them.
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// Returns a token, or the reason why there is none, for the log; the client asks again later. A call that takes more
    /// than 5 s is abandoned.
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>>;
}

/// Why [`crate::spawn`] refuses the options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The address can't be used.
    #[error("{uri:?} is not the address of a signaling server: {problem}")]
    Uri {
        /// The address as it was given.
        uri: String,
        /// The mistake and its fix.
        problem: String,
    },
    /// Certificate authorities were named, but the connection would be plain text.
    #[error("{uri:?} does not use TLS, but the file {} with certificate authorities is set: write wss://, or leave the file out", path.display())]
    PlainTextWithCa {
        /// The address.
        uri: String,
        /// The file.
        path: PathBuf,
    },
    /// The file of certificate authorities can't be read.
    #[error("can't read the certificate authorities in {}: {error}; name a PEM file that this user may read", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The file of certificate authorities contains no certificate.
    #[error("{} has no certificate: it must be a PEM file with -----BEGIN CERTIFICATE----- lines", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no certificate authority to trust.
    #[error(
        "this system has no certificate authorities: install ca-certificates, or set a PEM file with the authority of the server"
    )]
    NoAuthorities,
    /// The TLS library refuses its configuration.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// The call was made outside of a tokio runtime.
    #[error(
        "there is no tokio runtime in this thread: call this function within Runtime::enter() or an async function"
    )]
    NoRuntime,
}

/// An address to connect to, checked as far as that is possible without the network.
#[derive(Clone)]
pub(crate) struct Target {
    /// The address with port and room, for the upgrade request and its Host.
    pub(crate) uri: Uri,
    /// A name or an IP address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
}

pub(crate) fn check(options: &Options) -> Result<Target, OptionsError> {
    let wrong = |problem: &str| OptionsError::Uri { uri: shown(&options.uri), problem: problem.to_owned() };
    let given = options.uri.trim();
    let with_scheme = if given.contains("://") { given.to_owned() } else { format!("ws://{given}") };
    let uri: Uri = with_scheme.parse().map_err(|error| wrong(&format!("{error}; {EXAMPLE}")))?;
    let secure = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err(wrong(&format!("it must begin with ws:// or wss://; {EXAMPLE}"))),
    };
    let authority = uri.authority().ok_or_else(|| wrong(EXAMPLE))?;
    if authority.as_str().contains('@') {
        return Err(wrong("an address can't contain a user and a password: set token and password instead"));
    }
    let host = authority.host();
    if host.is_empty() || host == "[]" {
        return Err(wrong(&format!("the host is missing; {EXAMPLE}")));
    }
    // The host is followed by ":port" or by nothing. http::Uri reads a port out of range as a missing one.
    let port = match authority.as_str()[host.len()..].strip_prefix(':') {
        None => default_port(&uri, secure),
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong(&format!("the port must be a number from 1 to 65535; {EXAMPLE}")))?,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let scheme = if secure { "wss" } else { "ws" };
    let query = query_with_room(uri.query(), options.client.room.as_str());
    let full =
        format!("{scheme}://{host}:{port}{}?{query}", uri.path()).parse().map_err(|_| wrong(EXAMPLE))?;
    let tls = if secure {
        let name = ServerName::try_from(bare.clone()).map_err(|_| {
            wrong("no certificate can be valid for this host name: use a valid name or an IP address")
        })?;
        Some((connector(options.tls_ca_file.as_deref())?, name))
    } else if let Some(path) = &options.tls_ca_file {
        return Err(OptionsError::PlainTextWithCa { uri: shown(&options.uri), path: path.clone() });
    } else {
        None
    };
    Ok(Target { uri: full, host: bare, port, tls })
}

const EXAMPLE: &str = "write something like ws://192.0.2.1:8765 or wss://video.example.org";

/// The port of an address that names none.
fn default_port(uri: &Uri, secure: bool) -> u16 {
    match (uri.path(), secure) {
        ("" | "/", _) => DEFAULT_PORT,
        (_, true) => 443,
        (_, false) => 80,
    }
}

/// The query of the upgrade request. If the address names a room already, it is kept.
fn query_with_room(query: Option<&str>, room: &str) -> String {
    let query = query.unwrap_or_default();
    if query.split('&').any(|field| field == "room" || field.starts_with("room=")) {
        return query.to_owned();
    }
    let separator = if query.is_empty() { "" } else { "&" };
    format!("{query}{separator}room={}", utf8_percent_encode(room, ESCAPED))
}

/// All characters but the unreserved ones (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The address without the part that may contain a password.
fn shown(uri: &str) -> String {
    match (uri.find("://"), uri.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &uri[..scheme + 3], &uri[at..]),
        _ => uri.to_owned(),
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, OptionsError> {
    let mut roots = RootCertStore::empty();
    // Authorities of the system that can't be read do not matter as long as there are others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        return Err(OptionsError::NoAuthorities);
    }
    let config = TlsConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), OptionsError> {
    let pem = std::fs::read(path).map_err(|error| OptionsError::CaFile { path: path.to_owned(), error })?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(OptionsError::NoCertificate { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use room_protocol::{Instance, RoomId, wire::Role};

    fn options(uri: &str) -> Options {
        let room = RoomId::new("living_room").unwrap();
        Options::new(uri, ClientConfig::new(room, Role::Sender, Instance::from_random([0; 16])))
    }

    #[test]
    fn addresses_are_completed() {
        for (uri, full, host, port) in [
            ("ws://127.0.0.1", "ws://127.0.0.1:8765/", "127.0.0.1", 8765),
            ("127.0.0.1", "ws://127.0.0.1:8765/", "127.0.0.1", 8765),
            ("camera.local:9000", "ws://camera.local:9000/", "camera.local", 9000),
            ("ws://127.0.0.1:80", "ws://127.0.0.1:80/", "127.0.0.1", 80),
            (" ws://camera.local:9000/ws ", "ws://camera.local:9000/ws", "camera.local", 9000),
            ("WS://[::1]:1", "ws://[::1]:1/", "::1", 1),
            ("ws://[2001:db8::1]/", "ws://[2001:db8::1]:8765/", "2001:db8::1", 8765),
            ("ws://host/ws", "ws://host:80/ws", "host", 80),
            ("host/ws", "ws://host:80/ws", "host", 80),
        ] {
            let full = format!("{full}?room=living_room");
            let target = check(&options(uri)).unwrap();
            assert_eq!(
                (target.uri.to_string().as_str(), target.host.as_str(), target.port),
                (full.as_str(), host, port)
            );
            assert!(target.tls.is_none());
        }
        for (uri, full) in [
            ("wss://host", "wss://host:8765/"),
            ("wss://host/ws", "wss://host:443/ws"),
            ("wss://[::1]/ws", "wss://[::1]:443/ws"),
            ("wss://[::1]:443", "wss://[::1]:443/"),
        ] {
            let target = check(&options(uri)).unwrap();
            assert_eq!(target.uri.to_string(), format!("{full}?room=living_room"));
            assert!(target.tls.is_some());
        }
    }

    #[test]
    fn the_room_is_added_to_the_query_of_the_address() {
        for (uri, room, query) in [
            ("ws://host", "living_room", "room=living_room"),
            ("ws://host/ws?", "a", "room=a"),
            ("ws://host/ws?key=a%20b", "客厅 1&2", "key=a%20b&room=%E5%AE%A2%E5%8E%85%201%262"),
            ("ws://host?room=other", "a", "room=other"),
            ("ws://host?mushroom=1", "a", "mushroom=1&room=a"),
        ] {
            let mut options = options(uri);
            options.client.room = RoomId::new(room).unwrap();
            assert_eq!(check(&options).unwrap().uri.query(), Some(query), "{uri}");
        }
    }

    #[test]
    fn a_wrong_address_is_reported_with_the_fix() {
        for (uri, expected) in [
            ("", "something like ws://"),
            ("ws:/host", "something like ws://"),
            ("http://host:8765", "must begin with ws://"),
            ("ws:///", "something like ws://"),
            ("ws://:8765", "the host is missing"),
            ("ws://host:0", "from 1 to 65535"),
            ("ws://host:65536", "from 1 to 65535"),
            ("ws://host:port", "something like ws://"),
            ("ws://host name", "something like ws://"),
            ("ws://客厅", "something like ws://"),
            ("ws://[::1", "something like ws://"),
            ("wss://under score", "something like"),
        ] {
            let error = check(&options(uri)).err().unwrap_or_else(|| panic!("{uri} is fine?")).to_string();
            assert!(error.contains(expected), "{uri}: {error}");
        }
    }

    #[test]
    fn passwords_in_addresses_are_refused_and_not_repeated() {
        let error = check(&options("ws://user:secret@host")).err().unwrap().to_string();
        assert!(error.contains("@host") && error.contains("token") && !error.contains("secret"), "{error}");
        let error = check(&options("http://user:secret@host")).err().unwrap().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn authority_files_are_looked_at_before_anything_is_tried() {
        let with = |uri, file: &Path| Options { tls_ca_file: Some(file.to_owned()), ..options(uri) };
        let missing = Path::new("/nonexistent/ca.pem");
        let error = check(&with("wss://host", missing)).err().unwrap().to_string();
        assert!(error.contains("/nonexistent/ca.pem") && error.contains("name a PEM file"), "{error}");
        let error = check(&with("ws://host", missing)).err().unwrap().to_string();
        assert!(error.contains("write wss://"), "{error}");
        let empty = std::env::temp_dir().join(format!("room-client-{}-empty.pem", std::process::id()));
        for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&empty, text).unwrap();
            let error = check(&with("wss://host", &empty)).err().unwrap().to_string();
            assert!(error.contains("has no certificate") && error.contains("empty.pem"), "{error}");
        }
        std::fs::remove_file(&empty).unwrap();
    }

    #[test]
    fn outside_of_a_runtime_is_an_error_not_a_panic() {
        assert!(matches!(crate::spawn(options("ws://host")), Err(OptionsError::NoRuntime)));
    }
}
