//! Asks the running server, for the commands that do: one GET over HTTP, with and without TLS.

use anyhow::{Context, bail};
use room_signaling_server::{
    Config,
    settings::{Settings, Sources},
};
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme,
    StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer is long.
const MAX_ANSWER: u64 = 64 << 20;

/// The server on this machine that a configuration is for.
#[derive(Debug)]
pub(crate) struct Local {
    address: SocketAddr,
    tls: Option<ClientConfig>,
}

/// Whom to take for that server. It is asked by its address, and its certificate is for its public name.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Whoever answers there: it is told nothing.
    Anybody,
    /// Who has this certificate.
    Only(CertificateDer<'static>),
}

/// What it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Local {
    pub(crate) fn new(settings: &Settings, trust: Trust) -> anyhow::Result<Self> {
        let listen = settings.listen.as_ref().and_then(|listen| listen.value().first());
        let Some(listen) = listen.or(Config::default().listen.first().copied()) else {
            bail!("the configuration names no address to listen on");
        };
        if listen.port() == 0 {
            bail!("with port 0 nobody knows where it listens: set listen to another one");
        }
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let tls = settings.tls.certificate.is_some().then(|| trust.config()).transpose()?;
        Ok(Self { address: SocketAddr::new(ip, listen.port()), tls })
    }

    /// The server of a configuration with an admin token, and the headers that show the token.
    pub(crate) fn of_operator(sources: &Sources) -> anyhow::Result<(Self, String)> {
        let config = sources.load()?.config;
        let token = config.admin_token.context(
            "the server obeys only those who have the token of admin.token_file, and the configuration has none: \
             make one with `openssl rand -hex 32`",
        )?;
        // The token is for this server alone.
        let trust = config.tls.map_or(Trust::Anybody, |tls| Trust::Only(tls.certificate().clone()));
        let headers = format!("Authorization: {}\r\n", token.authorization());
        Ok((Self::new(&sources.settings(), trust)?, headers))
    }

    /// The answer to a GET. `headers` have their line ends.
    pub(crate) fn get(&self, path: &str, headers: &str) -> anyhow::Result<Answer> {
        self.request("GET", path, headers)
    }

    /// The answer to a request without a body. `headers` have their line ends.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str) -> anyhow::Result<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n",
            self.address
        );
        let answer =
            self.exchange(request.as_bytes()).with_context(|| format!("no answer from {}", self.address))?;
        parse(&answer).with_context(|| format!("what answers at {} is no room-signaling", self.address))
    }

    fn exchange(&self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let Some(tls) = &self.tls else { return converse(&mut stream, request) };
        let name = ServerName::from(self.address.ip());
        let session = ClientConnection::new(Arc::new(tls.clone()), name)?;
        converse(&mut StreamOwned::new(session, stream), request)
    }
}

fn converse(stream: &mut (impl Read + Write), request: &[u8]) -> anyhow::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let (head, body) = std::str::from_utf8(answer).ok()?.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

impl Trust {
    fn config(self) -> anyhow::Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier { trust: self, provider: provider.clone() };
        Ok(ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth())
    }
}

/// Looks at the certificate itself, where others look at its name and who signed it.
#[derive(Debug)]
struct Verifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trust {
            Trust::Only(expected) if certificate != expected => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            Trust::Anybody | Trust::Only(_) => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
