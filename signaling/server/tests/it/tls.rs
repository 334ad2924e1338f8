//! TLS: served with nothing else, refused where it is doubtful, renewed without dropping anyone.

use crate::common::{Client, Folder, PATIENCE, Program, Raw, server};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use room_signaling::{Config, Tls};
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// An authority of the test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What an authority made, in PEM.
struct Made {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for 127.0.0.1.
    fn make(&self) -> Made {
        self.make_with(|_| {})
    }

    fn make_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Made { chain: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    /// Connects as a client that trusts this authority alone.
    async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
    }

    async fn client(&self, address: SocketAddr) -> Client<TlsStream<TcpStream>> {
        Client::over(self.connect(address).await.unwrap(), address).await
    }
}

impl Made {
    fn tls(&self) -> Tls {
        Tls::new(self.chain.as_bytes(), self.key.as_bytes(), SystemTime::now()).unwrap()
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }

    fn write(&self, folder: &Folder) -> [String; 2] {
        [folder.write("chain.pem", &self.chain), folder.write("key.pem", &self.key)]
    }
}

fn certificate(client: &Client<TlsStream<TcpStream>>) -> CertificateDer<'static> {
    client.socket.get_ref().get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test]
async fn clients_talk_through_tls() {
    let authority = Authority::new();
    let server = server(|config| config.tls = Some(authority.make().tls()));
    let mut sender = authority.client(server.local_addr()).await;
    let mut receiver = authority.client(server.local_addr()).await;
    sender.enter("a", "r", "sender").await;
    receiver.enter("b", "r", "receiver").await;
    // More than TLS puts in a record, and than the session buffers.
    let sdp = "x".repeat(50_000);
    for _ in 0..20 {
        sender.send(json!({"type": "offer", "sdp": sdp})).await;
    }
    for _ in 0..20 {
        assert_eq!(receiver.message_of("offer").await["sdp"], sdp);
    }
    let stopping = tokio::task::spawn_blocking(|| server.stop());
    assert_eq!(receiver.close_code().await, 1012);
    drop((sender, receiver));
    stopping.await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_is_served_without_tls_and_plain_http_is_told_why() {
    let server = server(|config| config.tls = Some(Authority::new().make().tls()));
    let address = server.local_addr();
    let mut raw = Raw::connect(address).await;
    raw.write(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await;
    let answer = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    // A client that doesn't trust the certificate is gone, and disturbs nobody.
    assert!(Authority::new().connect(address).await.is_err());
}

#[tokio::test]
async fn a_handshake_has_as_much_time_as_a_request() {
    let server = server(|config| {
        config.tls = Some(Authority::new().make().tls());
        config.limits.head_timeout = Duration::from_millis(200);
    });
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let began = Instant::now();
        let mut raw = Raw::connect(server.local_addr()).await;
        raw.write(beginning).await;
        assert_eq!(raw.read_to_end().await, "");
        assert!(began.elapsed() >= Duration::from_millis(200) && began.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn a_reload_keeps_open_connections_and_shows_newcomers_the_new_certificate() {
    let authority = Authority::new();
    let (old, new) = (authority.make(), authority.make());
    let server = server(|config| config.tls = Some(old.tls()));
    let mut first = authority.client(server.local_addr()).await;
    first.enter("a", "r", "sender").await;
    server.reload(Config { tls: Some(new.tls()), ..Config::default() });
    let second = authority.client(server.local_addr()).await;
    assert_eq!((certificate(&first), certificate(&second)), (old.der(), new.der()));
    first.ping().await;
}

#[tokio::test]
async fn renewed_files_are_taken_and_wrong_ones_are_not() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let (old, new) = (authority.make(), authority.make());
    let [chain, key] = old.write(&folder);
    let text = format!("[tls]\ncertificate = '{chain}'\nkey = 'key.pem'\ncheck_seconds = 0.05\n");
    let (mut program, address) = Program::start("", &["--config", &folder.write("c.toml", text)]);
    let mut first = authority.client(address).await;

    // One after the other, as renewal writes them.
    folder.write("chain.pem", &new.chain);
    let line = program.line_with("renewed with errors");
    assert!(line.contains(&key) && line.contains("is not the key of the certificate"), "{line}");
    assert_eq!(certificate(&authority.client(address).await), old.der());
    folder.write("key.pem", &new.key);
    program.line_with("the certificate was renewed\"");
    assert_eq!(certificate(&authority.client(address).await), new.der());

    // By SIGHUP, too, an expired one is not taken.
    authority.make_with(|params| params.not_after = date_time_ymd(2020, 1, 1)).write(&folder);
    program.signal("HUP");
    program.line_with("not reloaded");
    assert!(
        program
            .seen
            .iter()
            .any(|line| line.contains("c.toml:2: tls.certificate: ") && line.contains("expired"))
    );
    assert_eq!(certificate(&authority.client(address).await), new.der());
    first.enter("a", "r", "sender").await;
}

/// What TLS keeps for a connection that says nothing: keys and a buffer of 4 KB, with rustls.
#[tokio::test]
async fn an_idle_connection_costs_little_more_with_tls() {
    // So many that what an allocator takes at a time doesn't count.
    const COUNT: usize = 1_000;
    let (authority, folder) = (Authority::new(), Folder::new());
    let [chain, key] = authority.make().write(&folder);
    let limits = folder
        .write("c.toml", "[limits]\nmax_connections_per_ip = 10000\nnew_connections_per_second = 10000\n");
    let (program, address) =
        Program::start("", &["--config", &limits, "--tls-certificate", &chain, "--tls-key", &key]);
    let mut clients = Vec::new();
    for n in 0..50 {
        clients.push(authority.client(address).await);
        clients[n].enter(&format!("first{n}"), "r", "receiver").await;
    }
    let before = program.resident();
    for n in 0..COUNT {
        let mut client = authority.client(address).await;
        client.enter(&format!("c{n}"), &format!("r{n}"), "receiver").await;
        client.ping().await;
        clients.push(client);
    }
    let each = (program.resident() - before) / COUNT;
    assert!(each <= 14, "{each} KB for each of {COUNT} connections");
}

/// Everything that is doubtful ends the start, and the words name the key, the file and the way out.
#[test]
fn what_is_doubtful_is_refused_at_the_start() {
    let authority = Authority::new();
    let (good, other) = (authority.make(), authority.make());
    let chain = |change: fn(&mut CertificateParams)| authority.make_with(change).chain;
    let stranger = Authority::new().0.pem();
    for (content, secret, key, words) in [
        ("", &*good.key, "tls.certificate", "holds no certificate"),
        (&*good.key, &good.key, "tls.certificate", "holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &good.key,
            "tls.certificate",
            "no certificate",
        ),
        (&good.chain, "", "tls.key", "no private key"),
        (&good.chain, &good.chain, "tls.key", "no private key"),
        (&good.chain, &other.key, "tls.key", "is not the key of the certificate"),
        (
            &chain(|params| params.not_after = date_time_ymd(2020, 1, 1)),
            &good.key,
            "tls.certificate",
            "expired",
        ),
        (
            &chain(|params| params.not_before = date_time_ymd(2999, 1, 1)),
            &good.key,
            "tls.certificate",
            "valid only in",
        ),
        (&format!("{}{stranger}", good.chain), &good.key, "tls.certificate", "is no chain"),
    ] {
        let folder = Folder::new();
        folder.write("chain.pem", content);
        folder.write("key.pem", secret);
        let file = folder.write("c.toml", "[tls]\ncertificate = 'chain.pem'\nkey = 'key.pem'\n");
        let line = if key == "tls.key" { 3 } else { 2 };
        refused(&["--config", &file], &[&format!("c.toml:{line}: {key}: "), words]);
    }
}

#[test]
fn files_that_are_not_there_are_refused_at_the_start() {
    let (folder, made) = (Folder::new(), Authority::new().make());
    let [chain, key] = made.write(&folder);
    let absent = folder.path("absent.pem");
    refused(
        &["--tls-certificate", &absent, "--tls-key", &key],
        &["tls.certificate: ", &absent, "can't be read"],
    );
    refused(&["--tls-certificate", &chain, "--tls-key", &absent], &["tls.key: ", &absent, "can't be read"]);
    refused(&["--tls-certificate", &chain], &["tls.certificate: ", "needs tls.key"]);
    refused(&["--tls-key", &key], &["tls.key: ", "needs tls.certificate"]);
}

/// That neither `serve` nor `check-config` takes these, and that both say why.
fn refused(arguments: &[&str], words: &[&str]) {
    for command in ["serve", "check-config"] {
        let mut program = Program::spawn("", &[&[command], arguments].concat());
        assert_eq!(program.end().code(), Some(1), "{command} {arguments:?}");
        let said = program.seen.join("\n");
        assert!(words.iter().all(|word| said.contains(word)), "{command}: {words:?} in {said}");
    }
}

/// Keys as `openssl genpkey`, `ecparam` and `genrsa` write them.
#[test]
fn keys_of_all_customary_kinds_are_taken() {
    let folder = Folder::new();
    for (name, make) in [
        ("PKCS#8, P-256", "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("SEC1, P-384", "openssl ecparam -genkey -noout -name secp384r1"),
        ("PKCS#1, RSA", "openssl genrsa -traditional 2048"),
        ("Ed25519", "openssl genpkey -algorithm ED25519"),
    ] {
        let key = folder.path("key.pem");
        let script = format!(
            "{make} > {key} && openssl req -x509 -key {key} -subj /CN=x -addext basicConstraints=critical,CA:FALSE"
        );
        let made = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
        let tls = Tls::new(&made.stdout, &std::fs::read(&key).unwrap(), SystemTime::now());
        assert!(tls.is_ok(), "{name}: {:?}", tls.err());
    }
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let made = authority.make_with(|params| {
        params.not_after = (SystemTime::now() + Duration::from_hours(24)).into();
    });
    let [chain, key] = made.write(&folder);
    let mut program = Program::spawn("", &["--tls-certificate", &chain, "--tls-key", &key]);
    program.line_with("ends within a week");
    program.line_with("listening");
}
