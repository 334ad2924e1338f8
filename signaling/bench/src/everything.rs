//! The configuration of room-signaling for the measurement, with all features on: tokens, TURN credentials, pages for
//! operators, and limits. The rates of one connection are raised, because otherwise they would limit the measurement.

use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const CONFIG: &str = r#"
[auth]
mode = "token"
audience = "bench"
[[auth.keys]]
kid = "bench"
algorithm = "HS256"
file = "key"
[turn]
urls = ["turn:127.0.0.1:3478"]
secret_file = "key"
[admin]
token_file = "key"
[limits]
messages_per_second = 1000000
messages_burst = 1000000
bytes_per_second = 2000000000
bytes_burst = 2000000000
"#;
/// It protects servers on the loopback interface only, for some seconds.
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The files of the configuration.
#[derive(Debug)]
pub(crate) struct Everything {
    folder: TempDir,
    /// A token that grants every client every room.
    pub(crate) token: String,
}

impl Everything {
    pub(crate) fn on(server: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("config.toml"), CONFIG)?;
        fs::write(folder.path().join("key"), KEY)?;
        let made = Command::new(server)
            .args(["token", "--kid", "bench", "--audience", "bench", "--user", "bench", "--room", "room-*"])
            .args(["--role", "sender,receiver", "--key"])
            .arg(folder.path().join("key"))
            .output()
            .with_context(|| format!("can't run {}", server.display()))?;
        ensure!(
            made.status.success(),
            "the token could not be made: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(Self { folder, token: String::from_utf8(made.stdout)?.trim().to_owned() })
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }
}
