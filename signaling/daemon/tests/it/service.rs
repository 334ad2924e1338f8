//! The notifications of the service manager (sd_notify(3)), on a socket of the test.

use crate::support::{Client, Folder, PATIENCE, Program};
use std::{os::unix::net::UnixDatagram, time::Duration};

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    folder: Folder,
}

impl Manager {
    fn new() -> Self {
        let folder = Folder::new();
        let socket = UnixDatagram::bind(folder.path("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, folder }
    }

    /// The environment variables of a service.
    fn environment(&self, more: &str) -> String {
        format!("export NOTIFY_SOCKET={} {more};", self.folder.path("notify"))
    }

    /// The next notification.
    fn hear(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("the service should say something");
        String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect()
    }
}

fn monotonic_microseconds() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "uptimes are small and positive"
    )]
    let microseconds = (seconds * 1e6) as u64;
    microseconds
}

#[tokio::test]
async fn the_service_manager_is_notified_of_start_reload_and_stop() {
    let manager = Manager::new();
    let file = manager.folder.write("c.toml", "");
    let (program, address) = Program::start(&manager.environment(""), &["--config", &file]);
    let ready = manager.hear();
    assert_eq!(ready, ["READY=1".to_owned(), format!("STATUS=Listening on {address}")]);

    for content in ["drain_seconds = 0", "drain_seconds = 'wrong'"] {
        manager.folder.write("c.toml", content);
        let before = monotonic_microseconds();
        program.signal("HUP");
        let reloading = manager.hear();
        assert_eq!(reloading[0], "RELOADING=1");
        let at: u64 = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        // Without suspends, the clock of /proc/uptime is the same; it has hundredths of a second.
        assert!(at >= before.saturating_sub(10_000) && at < before + 60_000_000, "{at} {before}");
        assert_eq!(manager.hear(), ["READY=1"], "{content}");
    }

    let (mut client, _) = Client::join(address, "a", "r", "sender").await;
    program.signal("TERM");
    assert_eq!(manager.hear()[0], "STOPPING=1");
    assert_eq!(client.close_code().await, 1012);
}

#[test]
fn the_watchdog_hears_of_it_in_half_its_time() {
    let manager = Manager::new();
    let (program, _) = Program::start(&manager.environment("WATCHDOG_USEC=400000"), &[]);
    let mut beats = 0;
    manager.socket.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    while beats < 5 {
        beats += usize::from(manager.hear() == ["WATCHDOG=1"]);
    }
    // A stopped process sends no notifications.
    program.signal("STOP");
    let mut buffer = [0; 64];
    while manager.socket.recv(&mut buffer).is_ok() {}
    program.signal("CONT");
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(manager.hear(), ["WATCHDOG=1"]);
}
