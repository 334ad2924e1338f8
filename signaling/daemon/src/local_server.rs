//! Sends one HTTP request to the running server on this machine, with or without TLS.

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

/// How long connecting, writing and each read may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest response, in bytes.
const MAX_RESPONSE: u64 = 64 << 20;

/// The server on this machine that runs with a configuration.
#[derive(Debug)]
pub(crate) struct LocalServer {
    address: SocketAddr,
    tls: Option<ClientConfig>,
}

/// The certificates to trust. The request goes to an address, but the certificate is for the server's public name, so the
/// name can't be checked.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Any, because the request contains no secret.
    AnyCertificate,
    /// Only this one.
    Only(CertificateDer<'static>),
}

/// The response of the server.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl LocalServer {
    pub(crate) fn new(settings: &Settings, trust: Trust) -> anyhow::Result<Self> {
        let listen = settings.listen.as_ref().and_then(|listen| listen.value().first());
        let Some(listen) = listen.or(Config::default().listen.first().copied()) else {
            bail!("the configuration names no address to listen on");
        };
        if listen.port() == 0 {
            bail!(
                "the configuration has port 0, so the port of the server is unknown: set listen to the port in its log"
            );
        }
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let tls = settings.tls.certificate.is_some().then(|| trust.config()).transpose()?;
        Ok(Self { address: SocketAddr::new(ip, listen.port()), tls })
    }

    /// The server, and the headers that carry the admin token of its configuration.
    pub(crate) fn with_admin_token(sources: &Sources) -> anyhow::Result<(Self, String)> {
        let config = sources.load()?.config;
        let token = config.admin_token.context(
            "this command needs the admin token, but the configuration has none: make one with `openssl rand -hex 32`, and set \
             admin.token_file to its file",
        )?;
        // The token must reach no other server.
        let trust = config.tls.map_or(Trust::AnyCertificate, |tls| Trust::Only(tls.certificate().clone()));
        let headers = format!("Authorization: {}\r\n", token.authorization());
        Ok((Self::new(&sources.settings(), trust)?, headers))
    }

    /// Sends a GET. `headers` contain their line ends.
    pub(crate) fn get(&self, path: &str, headers: &str) -> anyhow::Result<Response> {
        self.request("GET", path, headers)
    }

    /// Sends a request without a body. `headers` contain their line ends.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str) -> anyhow::Result<Response> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Connection: close\r\n\r\n",
            self.address
        );
        let response = self.exchange(request.as_bytes());
        let response =
            response.with_context(|| format!("no response from {}: is the server running?", self.address))?;
        parse(&response).with_context(|| format!("the program at {} is not room-signaling", self.address))
    }

    fn exchange(&self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let Some(tls) = &self.tls else { return send_and_receive(&mut stream, request) };
        let name = ServerName::from(self.address.ip());
        let session = ClientConnection::new(Arc::new(tls.clone()), name)?;
        send_and_receive(&mut StreamOwned::new(session, stream), request)
    }
}

fn send_and_receive(stream: &mut (impl Read + Write), request: &[u8]) -> anyhow::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut response)?;
    Ok(response)
}

fn parse(response: &[u8]) -> Option<Response> {
    let (head, body) = std::str::from_utf8(response).ok()?.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
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

/// Compares the certificate itself, not its name and its issuer.
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
            Trust::AnyCertificate | Trust::Only(_) => Ok(ServerCertVerified::assertion()),
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
