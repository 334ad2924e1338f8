//! The commands beside `serve`.

use crate::common::{Folder, Program};
use std::process::{Command, Output};

/// Runs the program to its end, with these variables in its environment.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_room-signaling"));
    command.args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn healthcheck_asks_where_the_configuration_says() {
    let (mut program, address) = Program::start("", &[]);
    let listen = address.to_string();
    assert!(run(&["healthcheck", "--listen", &listen], &[]).status.success());
    assert!(run(&["healthcheck"], &[("ROOM_SIGNALING_LISTEN", &listen)]).status.success());
    // A server on all addresses is asked on loopback, and what is wrong elsewhere in the file is no matter.
    let folder = Folder::new();
    let file = folder.write("c.toml", format!("listen = '0.0.0.0:{}'\nnonsense = 1\n", address.port()));
    assert!(run(&["healthcheck"], &[("ROOM_SIGNALING_CONFIG", &file)]).status.success());
    program.signal("TERM");
    program.end();
    let words = failure(&run(&["healthcheck", "--listen", &listen], &[]));
    assert!(words.contains(&listen) && words.contains("refused"), "{words}");
    let words = failure(&run(&["healthcheck", "--listen", "127.0.0.1:0"], &[]));
    assert!(words.contains("port 0"), "{words}");
}

#[test]
fn healthcheck_asks_through_tls() {
    let folder = Folder::new();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["robot.example".to_owned()]).unwrap();
    let chain = folder.write("chain.pem", certificate.self_signed(&key).unwrap().pem());
    let key = folder.write("key.pem", key.serialize_pem());
    let tls = ["--tls-certificate", &*chain, "--tls-key", &*key];
    let (_program, address) = Program::start("", &tls);
    let listen = address.to_string();
    assert!(run(&[&["healthcheck", "--listen", &listen], &tls[..]].concat(), &[]).status.success());
    let words = failure(&run(&["healthcheck", "--listen", &listen], &[]));
    assert!(words.contains("400") && words.contains("TLS"), "{words}");
}

#[test]
fn a_server_that_does_not_answer_is_not_healthy() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = silent.local_addr().unwrap().to_string();
    let words = failure(&run(&["healthcheck", "--listen", &listen], &[]));
    assert!(words.contains("no answer"), "{words}");
}
