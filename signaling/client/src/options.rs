//! Where to connect, checked before anything is tried: what is wrong is said at once, with what to do about it.

use crate::ClientConfig;
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

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// `ws://host:port/` or `wss://host:port/`. Without a port it is 8765, for both. An IPv6 address stands in
    /// brackets.
    pub uri: String,
    /// PEM file of certificate authorities to trust beside the system's, for `wss`.
    pub tls_ca_file: Option<PathBuf>,
    /// Who, and in which room.
    pub client: ClientConfig,
    /// Asked for a token before each connection, in place of the one in `client`, for servers whose tokens don't live
    /// long. With it, a token that expires is no failure.
    pub token_source: Option<Arc<dyn TokenSource>>,
}

impl Options {
    /// With the system's certificate authorities only.
    pub fn new(uri: impl Into<String>, client: ClientConfig) -> Self {
        Self { uri: uri.into(), tls_ca_file: None, client, token_source: None }
    }
}

/// Where fresh tokens come from: a file that somebody renews, a service that makes them.
pub trait TokenSource: fmt::Debug + Send + Sync {
    /// A token, or words for the log that say why there is none; then it is asked again later. What takes more than
    /// some seconds is given up.
    fn token(&self) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>>;
}

/// Why [`crate::spawn`] refuses.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// Nothing that could be connected to.
    #[error("{uri:?} is no address of a signaling server: {problem}")]
    Uri {
        /// As it was given.
        uri: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// Authorities were named, but the connection would be plain text.
    #[error("{uri:?} is without TLS, but {} names authorities for it: write wss:// or leave the file out", path.display())]
    PlainTextWithCa {
        /// The address.
        uri: String,
        /// The file.
        path: PathBuf,
    },
    /// The file of authorities can't be read.
    #[error("can't read the certificate authorities in {}: {error}; name a PEM file that this user may read", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file of authorities has none.
    #[error("{} has no certificate: it must be PEM, with the lines -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// Nobody to trust.
    #[error(
        "this system has no certificate authorities: install ca-certificates, or name a PEM file with the server's"
    )]
    NoAuthorities,
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
    /// Called outside of tokio.
    #[error("no tokio runtime here: call this within Runtime::enter() or an async function")]
    NoRuntime,
}

/// An address to connect to, valid as far as that can be known.
#[derive(Clone)]
pub(crate) struct Target {
    /// With the port, for the upgrade request and its Host.
    pub(crate) uri: Uri,
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<(TlsConnector, ServerName<'static>)>,
}

pub(crate) fn check(options: &Options) -> Result<Target, OptionsError> {
    let wrong = |problem: &str| OptionsError::Uri { uri: shown(&options.uri), problem: problem.to_owned() };
    let uri: Uri = options.uri.trim().parse().map_err(|error| wrong(&format!("{error}; {EXAMPLE}")))?;
    let secure = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err(wrong(&format!("it must begin with ws:// or wss://; {EXAMPLE}"))),
    };
    let authority = uri.authority().ok_or_else(|| wrong(EXAMPLE))?;
    if authority.as_str().contains('@') {
        return Err(wrong("user and password don't belong here: use token and password"));
    }
    let host = authority.host();
    if host.is_empty() || host == "[]" {
        return Err(wrong(&format!("the host is missing; {EXAMPLE}")));
    }
    // What follows the host is ":port", or nothing: http::Uri reads a port out of range as none.
    let port = match authority.as_str()[host.len()..].strip_prefix(':') {
        None => DEFAULT_PORT,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong(&format!("the port must be a number from 1 to 65535; {EXAMPLE}")))?,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let scheme = if secure { "wss" } else { "ws" };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let full = format!("{scheme}://{host}:{port}{path}").parse().map_err(|_| wrong(EXAMPLE))?;
    let tls = if secure {
        let name = ServerName::try_from(bare.clone())
            .map_err(|_| wrong("a certificate can't be made for this host: use its name or its address"))?;
        Some((connector(options.tls_ca_file.as_deref())?, name))
    } else if let Some(path) = &options.tls_ca_file {
        return Err(OptionsError::PlainTextWithCa { uri: shown(&options.uri), path: path.clone() });
    } else {
        None
    };
    Ok(Target { uri: full, host: bare, port, tls })
}

const EXAMPLE: &str = "write something like ws://192.0.2.1:8765 or wss://video.example.org";

/// Without what might be a password.
fn shown(uri: &str) -> String {
    match (uri.find("://"), uri.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &uri[..scheme + 3], &uri[at..]),
        _ => uri.to_owned(),
    }
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, OptionsError> {
    let mut roots = RootCertStore::empty();
    // Authorities of the system that can't be read are not this user's trouble as long as others can.
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
            ("ws://127.0.0.1:80", "ws://127.0.0.1:80/", "127.0.0.1", 80),
            (" ws://camera.local:9000/ws ", "ws://camera.local:9000/ws", "camera.local", 9000),
            ("WS://[::1]:1", "ws://[::1]:1/", "::1", 1),
            ("ws://[2001:db8::1]", "ws://[2001:db8::1]:8765/", "2001:db8::1", 8765),
            ("ws://host/ws?x=1", "ws://host:8765/ws?x=1", "host", 8765),
        ] {
            let target = check(&options(uri)).unwrap();
            assert_eq!(
                (target.uri.to_string().as_str(), target.host.as_str(), target.port),
                (full, host, port)
            );
            assert!(target.tls.is_none());
        }
        for (uri, full) in [("wss://host", "wss://host:8765/"), ("wss://[::1]:443", "wss://[::1]:443/")] {
            let target = check(&options(uri)).unwrap();
            assert_eq!(target.uri.to_string(), full);
            assert!(target.tls.is_some());
        }
    }

    #[test]
    fn wrong_addresses_are_named_with_what_to_do() {
        for (uri, words) in [
            ("", "something like ws://"),
            ("127.0.0.1:8765", "something like ws://"),
            ("localhost", "must begin with ws://"),
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
            assert!(error.contains(words), "{uri}: {error}");
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
