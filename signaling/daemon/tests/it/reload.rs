//! Reloading the configuration file.

use crate::support::{Authority, Client, Folder, Program, get, knows_host};

#[tokio::test]
async fn sighup_reads_the_file_anew() {
    let folder = Folder::new();
    let file = folder.write("c.toml", "");
    let (mut program, address) = Program::start("", &["--config", &file]);
    let (mut client, _) = Client::join(address, "a", "r", "sender").await;
    folder.write("c.toml", "allow_hosts = ['robot.example']\n");
    program.signal("HUP");
    program.line_with("\"reloaded\"");
    assert!(knows_host(address, "robot.example").await);
    client.ping().await;
}

#[tokio::test]
async fn a_bad_file_is_reported_and_the_old_configuration_stays() {
    let folder = Folder::new();
    let operators = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = folder.write("c.toml", "allow_hosts = ['robot.example']\n");
    let (mut program, address) =
        Program::start("", &["--config", &file, "--metrics-listen", &operators.to_string()]);
    let (mut client, _) = Client::join(address, "a", "r", "sender").await;
    folder.write("c.toml", "allow_hosts = ['other.example']\ndrain_second = 1\nlog_format = 'x'\n");
    program.signal("HUP");
    let line = program.line_with("configuration is wrong");
    assert!(line.contains("ERROR") && line.contains("c.toml:2: drain_second: "), "{line}");
    program.line_with("c.toml:3: log_format: ");
    program.line_with("not reloaded");
    assert!(knows_host(address, "robot.example").await && !knows_host(address, "other.example").await);
    client.ping().await;
    let (_, metrics) = get(operators, "/metrics", "").await;
    assert!(metrics.contains("\nroom_signaling_config_last_reload_successful 0\n"), "{metrics}");

    std::fs::remove_file(&file).unwrap();
    program.signal("HUP");
    program.line_with("can't read the configuration file");
    program.line_with("not reloaded");
    assert!(knows_host(address, "robot.example").await);
}

#[tokio::test]
async fn settings_that_need_a_restart_are_reported() {
    let folder = Folder::new();
    let file = folder.write("c.toml", "log_level = 'info'\n");
    let (mut program, address) =
        Program::start("unset ROOM_SIGNALING_LISTEN;", &["--config", &file, "--listen", "127.0.0.1:0"]);
    folder.write("c.toml", "log_level = 'debug'\nallow_hosts = ['robot.example']\n");
    program.signal("HUP");
    let line = program.line_with("only a restart");
    assert!(line.contains("log_level"), "{line}");
    program.line_with("\"reloaded\"");
    assert!(knows_host(address, "robot.example").await);
}

#[tokio::test]
async fn a_reload_that_opens_the_server_is_warned_of() {
    let folder = Folder::new();
    folder.write("room.key", "0123456789abcdef0123456789abcdef");
    let users = "[auth]\nmode = 'token'\n[[auth.keys]]\nkid = 'k'\nalgorithm = 'HS256'\nfile = 'room.key'\n";
    let file = folder.write("c.toml", users);
    let (mut program, _) = Program::start("", &["--config", &file]);
    folder.write("c.toml", "allow_origins = ['*']\n");
    program.signal("HUP");
    let line = program.line_with("clients no longer need a token");
    assert!(line.contains("WARN"), "{line}");
    program.line_with("pages of this origin may connect now");
    program.line_with("\"reloaded\"");
}

#[tokio::test]
async fn a_reload_without_tls_keeps_tls_and_warns() {
    let folder = Folder::new();
    let authority = Authority::new();
    authority.make().write(&folder);
    let file = folder.write("c.toml", "[tls]\ncertificate = 'chain.pem'\nkey = 'key.pem'\n");
    let (mut program, address) = Program::start("", &["--config", &file]);
    folder.write("c.toml", "");
    program.signal("HUP");
    let line = program.line_with("only a restart changes this");
    assert!(line.contains("\"tls\"") && line.contains("WARN"), "{line}");
    program.line_with("\"reloaded\"");
    authority.client(address).await.enter("a", "r", "sender").await;
}

#[tokio::test]
async fn an_open_server_is_warned_of_at_its_start_and_after_each_reload() {
    let folder = Folder::new();
    let file = folder.write("c.toml", "");
    let (mut program, _) = Program::start("", &["--config", &file, "--listen", "0.0.0.0:0"]);
    let line = program.line_with("can watch and send in every room without a password");
    assert!(line.contains("WARN"), "{line}");
    for _ in 0..2 {
        program.signal("HUP");
        program.line_with("can watch and send in every room without a password");
        program.line_with("\"reloaded\"");
    }
}

#[tokio::test]
async fn a_proxy_whose_header_is_trusted_after_a_reload_is_warned_of() {
    let folder = Folder::new();
    let file = folder.write("c.toml", "trusted_proxies = ['10.0.0.0/8']\n");
    let (mut program, _) = Program::start("", &["--config", &file]);
    folder.write("c.toml", "trusted_proxies = ['10.0.0.0/8']\nproxy_protocol = true\n");
    program.signal("HUP");
    let line = program.line_with("proxy_protocol: the PROXY header of 10.0.0.0/8 is trusted now");
    assert!(line.contains("WARN"), "{line}");
}
