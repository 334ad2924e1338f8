//! TLS: a chain of certificates and its key, looked at closely before anybody is served with them.
//!
//! Architecture invariant: a server that was told to speak TLS never speaks without.

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

/// What a connection's TLS may hold beside its queue, in bytes.
const BUFFER: usize = 16 << 10;
/// The first octet of each connection that speaks TLS: a handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// How long before its end a certificate is warned of.
const SOON: Duration = Duration::from_hours(7 * 24);
/// How often the files are looked at, and how often at most.
const CHECK: Duration = Duration::from_mins(1);
const MIN_CHECK: Duration = Duration::from_millis(10);

/// A certificate with its key, ready to serve with.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    own: Arc<CertificateDer<'static>>,
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Why a certificate or its key is refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The first file is something else.
    #[error(
        "holds no certificate: it must be a chain in PEM, the server's own certificate first (certbot's fullchain.pem)"
    )]
    NoCertificate,
    /// It can't be parsed.
    #[error("holds what is no certificate: {0}")]
    BadCertificate(String),
    /// The second file is something else.
    #[error(
        "holds no private key that can be used: it must be PEM without a password (certbot's privkey.pem)"
    )]
    NoKey,
    /// Of a kind that is not supported.
    #[error("holds a key that can't be used ({0}): RSA of 2048 bits or more, P-256, P-384 and Ed25519 can")]
    BadKey(String),
    /// They are of different certificates.
    #[error("is not the key of the certificate: name the two files that were made together")]
    Mismatch,
    /// It was valid once.
    #[error("expired {0} ago: renew it, or look at the clock of this machine")]
    Expired(Age),
    /// It will be valid.
    #[error("is valid only in {0}: wait, or look at the clock of this machine")]
    NotYetValid(Age),
    /// One certificate is not signed by the next.
    #[error(
        "is no chain: the server's own certificate must come first, and each next one be that of its issuer"
    )]
    NoChain,
}

impl TlsError {
    fn is_of_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::BadKey(_) | Self::Mismatch)
    }
}

/// A time span for people.
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
    /// From a chain of certificates and its key, in PEM. Refuses what is doubtful at `now`.
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
        // A client that comes back saves itself and us a signature; what that takes is with the client, not here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new().map_err(other)?;
        config.send_tls13_tickets = 1;
        Ok(Self { config: Arc::new(config), own })
    }

    /// The server's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.own
    }

    /// When the server's own certificate ends, in seconds since 1970.
    pub(crate) fn not_after(&self) -> Option<u64> {
        // Only the error about an expired certificate says so: it has expired at the end of time.
        let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
        match verify(std::slice::from_ref(&*self.own), self.config.crypto_provider(), end_of_time) {
            Ok(Some(CertificateError::ExpiredContext { not_after, .. })) => Some(not_after.as_secs()),
            _ => None,
        }
    }

    /// Whether the certificate ends within a week.
    fn ends_soon(&self, chain: &[u8], now: SystemTime) -> bool {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).flatten().collect();
        matches!(check_chain(&chain, self.config.crypto_provider(), now + SOON), Err(TlsError::Expired(_)))
    }

    /// Shakes hands. `Ok(Err(…))`: the peer speaks without TLS.
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

/// Checks the times and the order of a chain. Who signed its last certificate is for clients to know: here that one
/// is trusted. Without its issuer, a single certificate ends in `UnknownIssuer`, after its times were looked at.
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

/// What is wrong with a chain at `now`, if its last certificate is trusted.
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

/// The section `tls`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// The chain of certificates, the server's own first, in PEM.
    pub certificate: Option<FilePath>,
    /// Its key, in PEM.
    pub key: Option<FilePath>,
    /// How often to look whether these files were renewed.
    pub check_seconds: Option<Seconds>,
}

impl TlsSettings {
    /// The certificate and its files, if there are any. Problems are reported to the loader.
    pub(crate) fn load(self, loader: &mut Loader) -> (Option<Tls>, Option<TlsFiles>) {
        let (certificate, key) = match (self.certificate, self.key) {
            (None, None) => return (None, None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(certificate), None) => {
                loader.refuse(
                    "tls.certificate",
                    &certificate,
                    "needs tls.key beside it, the file of its key",
                );
                return (None, None);
            }
            (None, Some(key)) => {
                loader.refuse(
                    "tls.key",
                    &key,
                    "needs tls.certificate beside it, the file of its certificate",
                );
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
                if tls.ends_soon(&chain, now) {
                    loader.warn("tls.certificate: ends within a week; is its renewal set up?");
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

/// The files of the certificate and its key, to look whether they were renewed.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    certificate: PathBuf,
    key: PathBuf,
    /// How often to look.
    pub check: Duration,
    /// What they were like just before they were read.
    stamps: [Option<Stamp>; 2],
}

/// What changes when a file is replaced or written: inode, length, time with its nanoseconds.
type Stamp = (u64, u64, i64, i64);

impl TlsFiles {
    fn new(certificate: PathBuf, key: PathBuf, check: Duration) -> Self {
        let stamps = [stamp(&certificate), stamp(&key)];
        Self { certificate, key, check, stamps }
    }

    /// What is in them, if they are not what they were when this was asked last. Blocks. The error names the file
    /// and what is wrong with it.
    pub fn renewed(&mut self) -> Option<Result<Tls, String>> {
        let stamps = [stamp(&self.certificate), stamp(&self.key)];
        if stamps == self.stamps {
            return None;
        }
        self.stamps = stamps;
        Some(self.load())
    }

    fn load(&self) -> Result<Tls, String> {
        let named = |path: &Path, words: &dyn fmt::Display| format!("{}: {words}", path.display());
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
