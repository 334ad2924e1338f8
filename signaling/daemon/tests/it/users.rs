//! Tokens, keys and passwords of the program.

use crate::support::{Client, Folder, Program, join, register};
use room_signaling_server::auth::hash_password;
use serde_json::json;

/// A verification takes 19 MB, and releases them.
#[tokio::test]
async fn checks_of_passwords_leave_no_memory_behind() {
    let folder = Folder::new();
    let hash = hash_password("right").unwrap();
    let config = folder.write("c.toml", format!("[[rooms]]\nname = 'lab*'\npassword_hash = '{hash}'\n"));
    let (program, address) = Program::start("", &["--config", &config]);
    let (mut guesser, _) = register(address, "guesser", "").await;
    join(&mut guesser, "elsewhere", "receiver", None).await;
    let before = program.resident();
    for n in 0..4 {
        let answer = join(&mut guesser, &format!("lab {n}"), "receiver", Some("wrong")).await;
        assert_eq!(answer["code"], "forbidden", "{answer}");
    }
    let grown = program.resident() - before;
    assert!(grown < 10_000, "{grown} KB");
}

/// The output of a command.
fn output(arguments: &[&str], input: &str) -> String {
    let command = format!("printf '%s' \"$1\" | \"$0\" {}", arguments.join(" "));
    let output = std::process::Command::new("sh")
        .args(["-c", &command, env!("CARGO_BIN_EXE_room-signaling"), input])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn the_program_accepts_its_own_tokens_and_hashes_and_logs_neither() {
    let folder = Folder::new();
    let key = folder.write("room.key", "0123456789abcdef0123456789abcdef0123456789abcdef\n");
    let hash = output(&["hash-password"], "pass-the-salt\n");
    let text = format!(
        "log_level = 'trace'\n[auth]\nmode = 'token'\naudience = 'here'\n\
         [[auth.keys]]\nkid = 'k'\nalgorithm = 'HS256'\nfile = 'room.key'\n\
         [[rooms]]\nname = 'lab*'\npassword_hash = '{hash}'\n"
    );
    let file = folder.write("c.toml", &text);
    let order = "--kid k --user ann --room 'lab*' --role sender,receiver --audience here --ttl 1m";
    let token = output(&["token", "--key", &key, order], "");
    let (mut program, address) = Program::start("", &["--config", &file]);
    let mut client = Client::connect(address).await;
    let register = json!({"type": "register", "client_id": "a", "protocol": 1, "token": token, "instance": "hush-instance-0123"});
    client.send(register).await;
    assert_eq!(client.message().await["type"], "registered");
    assert_eq!(join(&mut client, "lab 1", "sender", Some("wrong-salt")).await["code"], "forbidden");
    assert_eq!(join(&mut client, "lab 1", "sender", Some("pass-the-salt")).await["type"], "joined");

    // Without the key, the connections of its tokens are closed.
    folder.write("other.key", "fedcba9876543210fedcba9876543210\n");
    folder.write("c.toml", text.replace("room.key", "other.key"));
    program.signal("HUP");
    assert_eq!(client.message_of("error").await["code"], "unauthorized");
    assert_eq!(client.close_code().await, 4010);
    program.signal("TERM");
    program.end();
    let log = program.seen.join("\n");
    assert!(log.contains("\"ann\"") && log.contains("every user of this machine can read"));
    for secret in [&token, "hush-instance", "salt", &hash, "0123456789abcdef", "fedcba"] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}

#[test]
fn unsuitable_keys_keep_the_server_from_starting() {
    let folder = Folder::new();
    folder.write("short.key", "0123456789abcdef");
    folder.write("good.key", "0123456789abcdef0123456789abcdef");
    let key = |file: &str| format!("[[auth.keys]]\nkid = 'k'\nalgorithm = 'HS256'\nfile = '{file}'\n");
    for (text, expected) in [
        (format!("[auth]\nmode = 'token'\n{}", key("short.key")), "short.key: the secret has 16 bytes"),
        (format!("[auth]\nmode = 'token'\n{}", key("none.key")), "none.key: can't be read"),
        (
            format!("[auth]\nmode = 'token'\n{}", key("good.key").replace("HS256", "EdDSA")),
            "not a public key",
        ),
        (format!("[auth]\nmode = 'token'\n{}", key("good.key").replace("HS256", "none")), "algorithm"),
        (format!("[auth]\nmode = 'token'\n{}", key("good.key").repeat(2)), "its own name"),
        ("[auth]\nmode = 'token'\n".to_owned(), "without a key"),
        ("[auth]\nmode = 'tokens'\n".to_owned(), "did you mean `token`?"),
        (key("good.key"), "auth.mode is not set"),
        ("[[rooms]]\nname = 'lab'\npassword_hash = 'right'\n".to_owned(), "hash-password"),
        ("[[rooms]]\nname = ' lab'\n".to_owned(), "white space"),
        ("[[rooms]]\nname = 'lab'\n[[rooms]]\nname = 'lab'\n".to_owned(), "twice"),
    ] {
        let file = folder.write("c.toml", &text);
        let mut program = Program::spawn("", &["--config", &file]);
        assert!(!program.end().success());
        let reported = program.seen.join("\n");
        assert!(reported.contains(expected) && reported.contains("c.toml:"), "{text}: {reported}");
    }
}
