//! The real program as a process.

use super::PATIENCE;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

/// The real program as a process. Dropping it kills it.
pub(crate) struct Program {
    pub(crate) child: Child,
    lines: mpsc::Receiver<String>,
    /// All lines that were read.
    pub(crate) seen: Vec<String>,
}

impl Program {
    /// Starts `room-signaling` on a free port from a shell, after `prelude`.
    pub(crate) fn start(prelude: &str, arguments: &[&str]) -> (Self, SocketAddr) {
        let mut program = Self::spawn(prelude, arguments);
        let line = program.line_with("\"listening\"");
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = line["listen"].as_str().unwrap().parse().unwrap();
        (program, address)
    }

    pub(crate) fn spawn(prelude: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{prelude} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_room-signaling")])
            .args(arguments)
            .env("ROOM_SIGNALING_LISTEN", "127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line of the log that contains `text`.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout | mpsc::RecvTimeoutError::Disconnected) => {
                    panic!("no line with {text:?} in:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Its resident memory, in KB.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end of the process, and reads the rest of the log.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    panic!("it should have ended:\n{}", self.seen.join("\n"))
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        self.seen.extend(self.lines.iter());
        status
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
