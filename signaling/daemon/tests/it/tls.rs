//! TLS of the program: invalid files keep it from starting, and it loads renewed ones.

use crate::support::{Authority, Folder, Program, certificate};
use rcgen::{CertificateParams, date_time_ymd};
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn renewed_files_are_loaded_and_wrong_ones_are_not() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let (old, new) = (authority.make(), authority.make());
    let [chain, key] = old.write(&folder);
    let text = format!("[tls]\ncertificate = '{chain}'\nkey = 'key.pem'\ncheck_seconds = 0.05\n");
    let (mut program, address) = Program::start("", &["--config", &folder.write("c.toml", text)]);
    let mut first = authority.client(address).await;

    // One after the other, as renewal programs write them.
    folder.write("chain.pem", &new.chain);
    let line = program.line_with("renewed with errors");
    assert!(line.contains(&key) && line.contains("is not the key of the certificate"), "{line}");
    assert_eq!(certificate(&authority.client(address).await), old.der());
    folder.write("key.pem", &new.key);
    program.line_with("the certificate was renewed\"");
    assert_eq!(certificate(&authority.client(address).await), new.der());

    // A reload does not load an expired certificate either.
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

/// The memory of an idle connection with TLS: keys and a buffer of 4 KB, with rustls.
#[tokio::test]
async fn an_idle_connection_costs_little_more_with_tls() {
    // So many that the granularity of the allocator doesn't matter.
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

/// Every invalid file is an error at the start that names the setting, the file and the fix.
#[test]
fn questionable_files_are_refused_at_the_start() {
    let authority = Authority::new();
    let (good, other) = (authority.make(), authority.make());
    let chain = |change: fn(&mut CertificateParams)| authority.make_with(change).chain;
    let stranger = Authority::new().0.pem();
    for (content, secret, key, expected) in [
        ("", &*good.key, "tls.certificate", "holds no certificate"),
        (&*good.key, &good.key, "tls.certificate", "holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &good.key,
            "tls.certificate",
            "certificate that is not valid",
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
            "not valid for another",
        ),
        (&format!("{}{stranger}", good.chain), &good.key, "tls.certificate", "is not a chain"),
    ] {
        let folder = Folder::new();
        folder.write("chain.pem", content);
        folder.write("key.pem", secret);
        let file = folder.write("c.toml", "[tls]\ncertificate = 'chain.pem'\nkey = 'key.pem'\n");
        let line = if key == "tls.key" { 3 } else { 2 };
        refused(&["--config", &file], &[&format!("c.toml:{line}: {key}: "), expected]);
    }
}

#[test]
fn missing_files_are_refused_at_the_start() {
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

/// Checks that `serve` and `check-config` refuse these files and say why.
fn refused(arguments: &[&str], expected: &[&str]) {
    for command in ["serve", "check-config"] {
        let mut program = Program::spawn("", &[&[command], arguments].concat());
        assert_eq!(program.end().code(), Some(1), "{command} {arguments:?}");
        let said = program.seen.join("\n");
        assert!(expected.iter().all(|word| said.contains(word)), "{command}: {expected:?} in {said}");
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
    program.line_with("expires within a week");
    program.line_with("listening");
}
