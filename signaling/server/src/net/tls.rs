//! TLS: a chain of certificates with its key, which is checked before it is used, and the files that it is read from.
//!
//! Architecture invariant: a server that is configured with TLS never serves without it.

use crate::config::{FilePath, Loader, Seconds};
use rustls::{
    CertificateError, RootCertStore, ServerConfig,
    client::verify_server_cert_signed_by_trust_anchor,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate},
};
use serde::Deserialize;
use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, rustls, server::TlsStream};

/// The bytes that TLS may buffer for one connection, in addition to its queue.
const BUFFER: usize = 16 << 10;
/// The first byte of a TLS connection: the type of a handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// The time before its expiry in which a certificate causes a warning.
const SOON: Duration = Duration::from_hours(7 * 24);
/// The default and the shortest interval at which the files are checked.
const CHECK: Duration = Duration::from_mins(1);
const MIN_CHECK: Duration = Duration::from_millis(10);

/// A certificate with its key, ready for use.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    own: Arc<CertificateDer<'static>>,
}

impl fmt::Debug for Tls {
    /// Hides the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// The reason for which a certificate or its key is refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file has no certificate.
    #[error(
        "holds no certificate: it must be a chain in PEM, the server's own certificate first (certbot's fullchain.pem)"
    )]
    NoCertificate,
    /// The certificate cannot be parsed.
    #[error("holds a certificate that is not valid: {0}")]
    BadCertificate(String),
    /// The file has no private key.
    #[error(
        "holds no private key that can be used: it must be PEM without a password (certbot's privkey.pem)"
    )]
    NoKey,
    /// The kind of key is not supported.
    #[error(
        "holds a key that is not supported ({0}): use RSA with 2048 bits or more, P-256, P-384 or Ed25519"
    )]
    BadKey(String),
    /// The key belongs to another certificate.
    #[error("is not the key of the certificate: name the two files that were made together")]
    Mismatch,
    /// The certificate has expired.
    #[error("expired {0} ago: renew it, or check the clock of this machine")]
    Expired(Age),
    /// The certificate is not valid yet.
    #[error("is not valid for another {0}: wait, or check the clock of this machine")]
    NotYetValid(Age),
    /// A certificate is not signed by the next one.
    #[error(
        "is not a chain: the server's own certificate must be first, followed by those of its issuers in order"
    )]
    NoChain,
}

impl TlsError {
    fn is_of_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::BadKey(_) | Self::Mismatch)
    }
}

/// A duration in words, rounded to one unit.
#[derive(Debug, Clone, Copy)]
pub struct Age(pub Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds} seconds"),
            seconds @ 120..7_200 => write!(f, "{} minutes", seconds / 60),
            seconds @ 7_200..172_800 => write!(f, "{} hours", seconds / 3_600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}

impl Tls {
    /// Checks a chain of certificates and its key, in PEM. `now` is the time at which the chain must be valid.
    pub fn new(chain: &[u8], key: &[u8], now: SystemTime) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::BadCertificate(error.to_string()))?;
        let provider = Arc::new(ring::default_provider());
        check_chain(&chain, &provider, now)?;
        let own = chain.first().cloned().map(Arc::new).ok_or(TlsError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
        let other = |error: rustls::Error| TlsError::BadKey(error.to_string());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(other)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
                rustls::Error::InvalidCertificate(error) => TlsError::BadCertificate(error.to_string()),
                error => other(error),
            })?;
        config.alpn_protocols = vec![b"http/1.1".into()];
        // A ticket saves a signature when the client reconnects. The client stores the session, not the server.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new().map_err(other)?;
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), own })
    }

    /// The server's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.own
    }

    /// The expiry of the server's own certificate, in UNIX time.
    pub(crate) fn not_after(&self) -> Option<u64> {
        // Only the error for an expired certificate contains that time, so it is verified at the end of time.
        let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        match verify(std::slice::from_ref(&*self.own), self.config.crypto_provider(), end_of_time) {
            Ok(Some(CertificateError::ExpiredContext { not_after, .. })) => Some(not_after.as_secs()),
            _ => None,
        }
    }

    /// Whether the certificate expires within a week.
    fn expires_soon(&self, chain: &[u8], now: SystemTime) -> bool {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).flatten().collect();
        matches!(check_chain(&chain, self.config.crypto_provider(), now + SOON), Err(TlsError::Expired(_)))
    }

    /// Completes the handshake. `Ok(Err(…))`: the peer does not use TLS.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<Result<Box<TlsStream<TcpStream>>, TcpStream>> {
        let mut first = [0];
        match stream.peek(&mut first).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if first != [HANDSHAKE] => return Ok(Err(stream)),
            _ => {}
        }
        let acceptor = TlsAcceptor::from(self.config.clone());
        let stream = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(BUFFER))).await?;
        Ok(Ok(Box::new(stream)))
    }
}

/// Checks the validity periods and the order of a chain. Its last certificate counts as trusted here, because clients check
/// its issuer. A single certificate gives `UnknownIssuer`, after its validity period was checked.
fn check_chain(
    chain: &[CertificateDer<'_>],
    provider: &CryptoProvider,
    now: SystemTime,
) -> Result<(), TlsError> {
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let Some(error) = verify(chain, provider, UnixTime::since_unix_epoch(since_epoch))? else {
        return Ok(());
    };
    let age =
        |from: UnixTime, to: UnixTime| Age(Duration::from_secs(to.as_secs().saturating_sub(from.as_secs())));
    match error {
        CertificateError::ExpiredContext { time, not_after } => Err(TlsError::Expired(age(not_after, time))),
        CertificateError::NotValidYetContext { time, not_before } => {
            Err(TlsError::NotYetValid(age(time, not_before)))
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature if chain.len() > 1 => {
            Err(TlsError::NoChain)
        }
        CertificateError::BadEncoding => Err(TlsError::BadCertificate(error.to_string())),
        _ => Ok(()),
    }
}

/// The problem of a chain at `now`, if its last certificate is trusted.
fn verify(
    chain: &[CertificateDer<'_>],
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<Option<CertificateError>, TlsError> {
    let bad = |error: rustls::Error| TlsError::BadCertificate(error.to_string());
    let [own, issuers @ ..] = chain else { return Err(TlsError::NoCertificate) };
    let own = ParsedCertificate::try_from(own).map_err(bad)?;
    let mut roots = RootCertStore::empty();
    if let Some(last) = chain.last() {
        roots.add(last.clone().into_owned()).map_err(bad)?;
    }
    let algorithms = provider.signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(&own, &roots, issuers, now, algorithms) {
        Err(rustls::Error::InvalidCertificate(error)) => Ok(Some(error)),
        _ => Ok(None),
    }
}

/// The section `tls` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// The file of the chain in PEM, with the server's own certificate first.
    pub certificate: Option<FilePath>,
    /// The file of its key in PEM.
    pub key: Option<FilePath>,
    /// The interval at which these files are checked for a renewal, in seconds (60).
    pub check_seconds: Option<Seconds>,
}

impl TlsSettings {
    /// The certificate and its files, if there are any. Problems are reported to the loader.
    pub(crate) fn load(self, loader: &mut Loader) -> (Option<Tls>, Option<TlsFiles>) {
        let (certificate, key) = match (self.certificate, self.key) {
            (None, None) => return (None, None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(certificate), None) => {
                loader.refuse("tls.certificate", &certificate, "needs tls.key, the file of its key");
                return (None, None);
            }
            (None, Some(key)) => {
                loader.refuse("tls.key", &key, "needs tls.certificate, the file of its certificate");
                return (None, None);
            }
        };
        let files = TlsFiles::new(
            loader.resolve(&certificate),
            loader.resolve(&key),
            self.check_seconds.map_or(CHECK, Seconds::duration).max(MIN_CHECK),
        );
        let chain = loader.read("tls.certificate", &certificate);
        let secret = loader.read_secret("tls.key", &key);
        let (Some(chain), Some(secret)) = (chain, secret) else { return (None, None) };
        let now = SystemTime::now();
        let tls = match Tls::new(&chain, &secret, now) {
            Ok(tls) => {
                if tls.expires_soon(&chain, now) {
                    loader.warn("tls.certificate: expires within a week; check that its renewal is set up");
                }
                Some(tls)
            }
            Err(error) => {
                let (key, file) =
                    if error.is_of_key() { ("tls.key", &key) } else { ("tls.certificate", &certificate) };
                loader.refuse_file(key, file, error);
                None
            }
        };
        (tls, Some(files))
    }
}

/// The files of the certificate and its key, to detect that they were renewed.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    /// The interval at which to call [`TlsFiles::renewed`].
    pub check: Duration,
    /// Their state just before they were read.
    stamps: [Option<Stamp>; 2],
}

/// The properties that change when a file is replaced or written: inode, length, time of modification with nanoseconds.
type Stamp = (u64, u64, i64, i64);

impl TlsFiles {
    fn new(certificate: PathBuf, key: PathBuf, check: Duration) -> Self {
        let stamps = [stamp(&certificate), stamp(&key)];
        Self { certificate, key, check, stamps }
    }

    /// Reads the files if they have changed since the last call. Blocks. The error names the file and the problem.
    pub fn renewed(&mut self) -> Option<Result<Tls, String>> {
        let stamps = [stamp(&self.certificate), stamp(&self.key)];
        if stamps == self.stamps {
            return None;
        }
        self.stamps = stamps;
        Some(self.load())
    }

    fn load(&self) -> Result<Tls, String> {
        let named = |path: &Path, problem: &dyn fmt::Display| format!("{}: {problem}", path.display());
        let read = |path: &Path| {
            fs::read(path).map_err(|error| named(path, &format_args!("can't be read: {error}")))
        };
        let (chain, key) = (read(&self.certificate)?, read(&self.key)?);
        Tls::new(&chain, &key, SystemTime::now())
            .map_err(|error| named(if error.is_of_key() { &self.key } else { &self.certificate }, &error))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    fs::metadata(path).ok().map(|file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}
