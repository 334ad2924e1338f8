//! The commands other than `serve`.

use crate::support::{Client, Folder, Program};
use serde_json::{Value, json};
use std::{
    net::{SocketAddr, TcpListener},
    process::{Command, Output},
    time::SystemTime,
};

/// Runs the program to its end, with these variables in its environment.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_room-signaling"));
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Writes a certificate and its key into files with this prefix.
fn certificate(folder: &Folder, prefix: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["robot.example".to_owned()]).unwrap();
    let chain = folder.write(&format!("{prefix}chain.pem"), certificate.self_signed(&key).unwrap().pem());
    (chain, folder.write(&format!("{prefix}key.pem"), key.serialize_pem()))
}

/// An address without a listener.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn healthcheck_asks_where_the_configuration_says() {
    let (mut program, address) = Program::start("", &[]);
    let listen = address.to_string();
    assert!(run(&["healthcheck", "--listen", &listen], &[]).status.success());
    assert!(run(&["healthcheck"], &[("ROOM_SIGNALING_LISTEN", &listen)]).status.success());
    // A server on all addresses is reached on loopback, and other errors in the file do not matter.
    let folder = Folder::new();
    let file = folder.write("c.toml", format!("listen = '0.0.0.0:{}'\nnonsense = 1\n", address.port()));
    assert!(run(&["healthcheck"], &[("ROOM_SIGNALING_CONFIG", &file)]).status.success());
    program.signal("TERM");
    program.end();
    let expected = failure(&run(&["healthcheck", "--listen", &listen], &[]));
    assert!(expected.contains(&listen) && expected.contains("refused"), "{expected}");
    let expected = failure(&run(&["healthcheck", "--listen", "127.0.0.1:0"], &[]));
    assert!(expected.contains("port 0"), "{expected}");
}

#[test]
fn healthcheck_asks_through_tls() {
    let folder = Folder::new();
    let (chain, key) = certificate(&folder, "");
    let tls = ["--tls-certificate", &*chain, "--tls-key", &*key];
    let (_program, address) = Program::start("", &tls);
    let listen = address.to_string();
    assert!(run(&[&["healthcheck", "--listen", &listen], &tls[..]].concat(), &[]).status.success());
    let expected = failure(&run(&["healthcheck", "--listen", &listen], &[]));
    assert!(expected.contains("400") && expected.contains("TLS"), "{expected}");
}

#[test]
fn a_server_that_does_not_answer_is_not_healthy() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = silent.local_addr().unwrap().to_string();
    let expected = failure(&run(&["healthcheck", "--listen", &listen], &[]));
    assert!(expected.contains("no response"), "{expected}");
}

#[test]
fn turn_credentials_are_those_of_joined() {
    let folder = Folder::new();
    folder.write("secret", "north by northwest\n");
    let text = "stun = ['stun:s.example']\n[turn]\nurls = ['turn:t.example']\nsecret_file = 'secret'\nttl_seconds = 600\n";
    let file = folder.write("c.toml", text);
    let output = run(&["turn-credentials", "--config", &file, "bob"], &[]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["ice_ttl_s"], 600);
    assert_eq!(said["ice_servers"][0]["urls"], json!(["stun:s.example"]));
    let turn = &said["ice_servers"][1];
    assert_eq!(turn["urls"], json!(["turn:t.example"]));
    let (expiry, name) = turn["username"].as_str().unwrap().split_once(':').unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(name == "bob" && (now + 590..=now + 600).contains(&expiry.parse().unwrap()), "{turn}");
    assert!(turn["credential"].is_string());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("north"));
    let expected = failure(&run(&["turn-credentials"], &[]));
    assert!(expected.contains("turn.urls"), "{expected}");
}

/// With TLS, the token is sent only to a server with the configured certificate.
#[tokio::test]
async fn rooms_are_shown_to_the_operator() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let folder = Folder::new();
    folder.write("token", format!("{TOKEN}\n"));
    let (chain, key) = certificate(&folder, "");
    let listen = free_address();
    let text = |chain: &str| {
        format!(
            "listen = '{listen}'\n[tls]\ncertificate = '{chain}'\nkey = '{key}'\n[admin]\ntoken_file = 'token'\n"
        )
    };
    let file = folder.write("c.toml", text(&chain));
    let (_program, _) = Program::start("unset ROOM_SIGNALING_LISTEN;", &["--config", &file]);
    let output = run(&["rooms", "--config", &file, "--json"], &[]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["rooms"], &said["total"]), (&json!([]), &json!(0)));
    let output = run(&["rooms", "--config", &file], &[]);
    assert!(output.stdout.starts_with(b"ROOM  CLIENT"), "{output:?}");

    let (other_chain, other_key) = certificate(&folder, "other-");
    let other = folder.write("other.toml", text(&other_chain).replace(&key, &other_key));
    let expected = failure(&run(&["rooms", "--config", &other], &[]));
    assert!(expected.contains("invalid peer certificate"), "{expected}");

    folder.write("token", "another-token-of-operators");
    let expected = failure(&run(&["rooms", "--config", &file], &[]));
    assert!(expected.contains("401") && expected.contains("another admin token"), "{expected}");
    folder.write("c.toml", format!("listen = '{listen}'\n"));
    let expected = failure(&run(&["rooms", "--config", &file], &[]));
    assert!(expected.contains("admin.token_file"), "{expected}");
}

#[test]
fn the_manual_and_the_completions_know_the_commands() {
    let folder = Folder::new();
    assert!(run(&["generate", &folder.path("")], &[]).status.success());
    for name in ["room-signaling.1", "room-signaling.bash", "_room-signaling", "room-signaling.fish"] {
        let text = std::fs::read_to_string(folder.path(name)).unwrap().replace("\\-", "-");
        assert!(text.contains("check-config") && text.contains("tls-certificate"), "{name}: {text}");
    }
}

#[tokio::test]
async fn an_operator_kicks_and_closes_and_denies_by_commands() {
    let folder = Folder::new();
    folder.write("token", "0123456789abcdef0123456789abcdef\n");
    let file = folder.write("c.toml", "[admin]\ntoken_file = 'token'\n");
    let (_program, address) = Program::start("", &["--config", &file]);
    let listen = address.to_string();
    let command =
        |arguments: &[&str]| run(&[arguments, &["--config", &file, "--listen", &listen]].concat(), &[]);
    let (mut camera, _) = Client::join(address, "camera", "客厅", "sender").await;
    let (mut phone, _) = Client::join(address, "ann's phone", "客厅", "receiver").await;
    let output = command(&["kick", "客厅", "ann's phone"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(phone.message_of("error").await["code"], "forbidden");
    assert_eq!(camera.message_of("peer_left").await["reason"], "kicked");
    let expected = failure(&command(&["kick", "客厅", "ann's phone"]));
    assert!(expected.contains("has no member"), "{expected}");
    let output = command(&["close-room", "客厅"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("1 members were removed"), "{output:?}");
    assert_eq!(camera.message_of("error").await["code"], "forbidden");

    for arguments in [&["deny", "mallory"][..], &["deny", "--token", "4f1c"]] {
        assert!(command(arguments).status.success());
    }
    let denied = command(&["denied"]);
    assert_eq!(String::from_utf8_lossy(&denied.stdout), "user   mallory\ntoken  4f1c\n");
    assert!(command(&["allow", "mallory"]).status.success());
    let expected = failure(&command(&["allow", "mallory"]));
    assert!(expected.contains("is not denied"), "{expected}");

    folder.write("token", "another-token-of-operators");
    let expected = failure(&command(&["close-room", "hall"]));
    assert!(expected.contains("another admin token"), "{expected}");
}
