//! The program as a process.

use crate::support::{Client, Folder, PATIENCE, Program, Raw, frame};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

#[tokio::test]
async fn sigterm_ends_it_gracefully() {
    let (mut program, address) = Program::start("", &["serve", "--drain-seconds", "0.2"]);
    let (mut client, _) = Client::join(address, "a", "r", "receiver").await;
    program.signal("TERM");
    assert_eq!(client.message().await["type"], "draining");
    assert_eq!(client.close_code().await, 1012);
    drop(client);
    assert_eq!(program.end().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (mut program, address) = Program::start("", &["--drain-seconds", "60"]);
    let (mut client, _) = Client::join(address, "a", "r", "receiver").await;
    program.signal("INT");
    assert_eq!(client.message().await["type"], "draining");
    program.signal("INT");
    assert_eq!(program.end().code(), Some(1));
}

#[tokio::test]
async fn it_survives_having_no_more_files() {
    let (mut program, address) = Program::start("ulimit -n 40;", &[]);
    let mut first = Client::connect(address).await;
    let mut others = Vec::new();
    for _ in 0..60 {
        others.push(TcpStream::connect(address).await.unwrap());
    }
    program.line_with("cannot accept connections");
    // Connected clients are served, and new ones are once files are free again.
    first.send(json!({"type": "register", "client_id": "first", "protocol": 1})).await;
    assert_eq!(first.message().await["type"], "registered");
    drop(others);
    Client::join(address, "next", "r", "receiver").await;
}

/// The kernel's table of open files must not grow while clients connect, because that stops the process.
#[test]
fn the_table_of_open_files_has_room_from_the_start() {
    let (program, _) = Program::start("ulimit -Sn 256; ulimit -Hn 4096;", &["--max-connections", "900"]);
    let status = fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
    assert!(size.trim().parse::<u32>().unwrap() >= 900, "{size}");
}

#[tokio::test]
async fn the_log_names_clients_and_has_no_secrets() {
    let (mut program, address) = Program::start("", &["--log-level", "trace"]);
    let mut client = Client::connect(address).await;
    let secrets = ["secret-of-process", "secret-token", "secret-password", "secret-credential"];
    client
        .send(json!({"type": "register", "client_id": "cam\"\u{1f4f7} x=1", "protocol": 1, "instance": secrets[0], "token": secrets[1]}))
        .await;
    assert_eq!(client.message().await["type"], "registered");
    client.send(json!({"type": "join", "room_id": "客厅", "role": "sender", "password": secrets[2], "token": secrets[1]})).await;
    assert_eq!(client.message().await["type"], "joined");
    client.send(json!({"type": "private", "credential": secrets[3]})).await;
    client.send(json!({"type": "offer", "sdp": "v=0", "target_id": "nobody"})).await;
    assert_eq!(client.message().await["code"], "target_not_found");
    client.socket.close(None).await.unwrap();
    program.line_with("\"disconnected\"");
    program.signal("TERM");
    assert_eq!(program.end().code(), Some(0));

    let lines: Vec<Value> = program.seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let line = |message: &str| {
        lines
            .iter()
            .find(|line| line["message"] == message)
            .unwrap_or_else(|| panic!("no {message}: {lines:?}"))
    };
    for message in ["connected", "registered", "joined", "refused", "left", "disconnected"] {
        let remote = line(message)["remote"].as_str().unwrap();
        assert!(remote.parse::<SocketAddr>().is_ok(), "{remote}");
    }
    assert_eq!(line("registered")["client"], "cam\"\u{1f4f7} x=1");
    assert_eq!((&line("joined")["room"], &line("joined")["role"]), (&json!("客厅"), &json!("sender")));
    assert_eq!(line("refused")["code"], "target_not_found");
    assert_eq!(line("left")["reason"], "disconnected");
    let log = program.seen.join("\n");
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn descriptions_are_logged_at_trace_only() {
    for (level, shown) in [("debug", false), ("trace", true)] {
        let (mut program, address) = Program::start("", &["--log-level", level, "--drain-seconds", "0"]);
        let (mut sender, _) = Client::join(address, "a", "r", "sender").await;
        let (mut receiver, _) = Client::join(address, "b", "r", "receiver").await;
        sender.send(json!({"type": "offer", "sdp": "v=0 description"})).await;
        receiver.message().await;
        drop((sender, receiver));
        program.signal("TERM");
        program.end();
        assert_eq!(program.seen.iter().any(|line| line.contains("v=0 description")), shown, "{level}");
    }
}

#[test]
fn a_port_in_use_is_reported_with_a_remedy() {
    let (program, address) = Program::start("", &[]);
    let mut second = Program::spawn("", &["--listen", &address.to_string()]);
    assert_eq!(second.end().code(), Some(1));
    let said = second.seen.join("\n");
    assert!(said.contains(&address.to_string()) && said.contains("--listen"), "{said}");
    drop(program);
}

#[test]
fn listening_to_the_network_is_warned_of() {
    let mut program = Program::spawn("", &["--listen", "0.0.0.0:0", "--log-format", "text"]);
    let line = program.line_with("authentication");
    assert!(line.contains("WARN"), "{line}");
}

#[test]
fn variables_equal_flags_and_help_has_examples() {
    let mut program = Program::spawn("ROOM_SIGNALING_DRAIN_SECONDS=never", &["serve"]);
    assert_eq!(program.end().code(), Some(1));
    let said = program.seen.join("\n");
    assert!(said.contains("ROOM_SIGNALING_DRAIN_SECONDS: drain_seconds: must be a number"), "{said}");
    let help = Command::new(env!("CARGO_BIN_EXE_room-signaling")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for part in ["Examples:", "--listen", "ROOM_SIGNALING_LISTEN", "--ice-servers"] {
        assert!(help.contains(part), "{part} in {help}");
    }
}

/// Buffers release their memory: of 60 KB in each direction, almost nothing remains.
#[tokio::test]
async fn an_idle_connection_costs_little_whatever_passed_through_it() {
    const COUNT: usize = 400;
    crate::support::raise_file_limit();
    let (program, address) = Program::start("", &["--log-level", "warn,room_signaling=info"]);
    // The first connection allocates buffers that all connections share.
    let mut sockets = vec![exchange(address, 0).await];
    let before = program.resident();
    for n in 1..=COUNT {
        sockets.push(exchange(address, n).await);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut each = usize::MAX;
    while each > 8 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
        each = program.resident().saturating_sub(before) / COUNT;
    }
    assert!(each <= 8, "{each} KB for each of {COUNT} connections");
}

/// A connection that sent and received 60 KB.
async fn exchange(address: SocketAddr, n: usize) -> Raw {
    let from = u8::try_from(n % 100).unwrap();
    let mut raw = Raw::upgrade(Raw::connect_from(from, address).await.stream).await;
    raw.write(&frame(0x81, format!(r#"{{"type":"register","client_id":"c{n}","protocol":1}}"#).as_bytes()))
        .await;
    raw.message().await;
    raw.write(&frame(0x81, format!(r#"{{"type":"ping","p":"{}"}}"#, "x".repeat(60_000)).as_bytes())).await;
    raw.message().await;
    raw
}

#[test]
fn check_config_reports_all_that_serve_would_refuse() {
    let file = std::env::temp_dir().join(format!("room-check-{}.toml", std::process::id()));
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_room-signaling")).arg("check-config").arg(&file).output();
        let output = output.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check("listen = '127.0.0.1:1'\n"), (Some(0), String::new()));
    let (code, reported) = check("lisen = '127.0.0.1:1'\ndrain_seconds = -1\n");
    assert_eq!(code, Some(1));
    assert!(reported.contains(":1: lisen: ") && reported.contains(":2: drain_seconds: "), "{reported}");
    let mut serving = Program::spawn("", &["--config", file.to_str().unwrap()]);
    assert_eq!(serving.end().code(), Some(1));
    assert!(serving.seen.iter().any(|line| line.contains(":2: drain_seconds: ")), "{:?}", serving.seen);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn an_inherited_journal_variable_does_not_redirect_the_log() {
    let (program, _) = Program::start("export JOURNAL_STREAM=1:1;", &[]);
    assert!(program.seen.iter().any(|line| line.contains("\"listening\"")));
}

/// Standard error is a full pipe that is not read.
#[tokio::test]
async fn an_unread_log_delays_no_client() {
    let (mut program, address) = Unread::start(&[]).await;
    let (mut sender, _) = Client::join(address, "a", "r", "sender").await;
    let (mut receiver, _) = Client::join(address, "b", "r", "receiver").await;
    // A pipe holds 64 KiB.
    for _ in 0..150 {
        sender.send(json!({"type": "offer", "sdp": "x".repeat(2_000)})).await;
        receiver.message_of("offer").await;
    }
    let began = Instant::now();
    let status = Command::new("kill").arg(program.0.id().to_string()).status().unwrap();
    assert!(status.success());
    let code = tokio::task::spawn_blocking(move || program.0.wait().unwrap().code()).await.unwrap();
    assert_eq!(code, Some(0));
    assert!(began.elapsed() < PATIENCE);
}

/// When the log is read again, it contains the number of discarded lines.
#[tokio::test]
async fn a_log_that_is_read_too_late_reports_the_missing_lines() {
    let folder = Folder::new();
    let limits = "[limits]\nmessages_per_second = 1000000\nmessages_burst = 1000000\n";
    let (mut program, address) = Unread::start(&["--config", &folder.write("c.toml", limits)]).await;
    let (mut client, _) = Client::join(address, "a", "r", "sender").await;
    // More lines than fit into the queue and the pipe.
    for _ in 0..6_000 {
        client.send(json!({"type": "ping"})).await;
        client.message_of("pong").await;
    }
    let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines();
    let reported = tokio::task::spawn_blocking(move || {
        let reported = lines.find(|line| line.as_ref().unwrap().contains("lines were discarded")).unwrap();
        serde_json::from_str::<Value>(&reported.unwrap()).unwrap()
    });
    let reported = tokio::time::timeout(PATIENCE, reported).await.unwrap().unwrap();
    assert!(reported["lines"].as_u64().unwrap() > 0, "{reported}");
}

/// A process whose standard error is not read. Dropping it kills it.
struct Unread(Child);

impl Unread {
    /// Starts the program, and waits until it listens.
    async fn start(arguments: &[&str]) -> (Self, SocketAddr) {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_room-signaling"))
            .args(["--log-level", "trace", "--drain-seconds", "0", "--listen", &address.to_string()])
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let program = Self(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).await.is_err() {
            assert!(Instant::now() < deadline, "it should listen");
        }
        (program, address)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_misspelled_variable_is_warned_of() {
    let mut program = Program::spawn(
        "export ROOM_SIGNALING_ALLOW_HOSTZ=x ROOM_SIGNALING_ALLOW_HOSTS=y ROOM_SIGNALING_ALLOW_HOST=z;",
        &[],
    );
    let line = program.line_with("no such setting");
    assert!(line.contains("ROOM_SIGNALING_ALLOW_HOSTZ"), "{line}");
    program.line_with("\"listening\"");
    assert!(!program.seen.iter().any(|line| line.contains("no such setting") && !line.contains("HOSTZ")));
}
