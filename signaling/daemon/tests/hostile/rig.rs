//! A server in a separate process, honest clients, and an attack.
//!
//! The honest clients' p99 of relaying during the attack is at most twice what it was before. Where the machine is busy
//! with something else no server can hold that, so:
//! - What counts is the median of the p99s of windows of [`WINDOW`]: a moment in which the server's process does not
//!   get a processor is in one of them, what an attacker does to it in all. [`SLOW`] is for all of them together.
//! - "What it was before" is at least [`FLOOR`], as no p99 of a hundred messages is steadier than the turns that a
//!   scheduler with two cores gives, and at least that of a socket whose other end only sends back, during the attack
//!   (`honest.rs`): that is what this machine takes at best while the attacker works on it.

use crate::{
    honest::{Honest, Sample, Way},
    support::{Folder, PATIENCE, Program, Raw, handshake, raise_file_limit},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

/// The lower bound of the p99 for the comparison.
const FLOOR: Duration = Duration::from_millis(10);
/// The highest p99 of all messages, on any machine.
const SLOW: Duration = Duration::from_millis(100);
/// A window of about a hundred messages.
const WINDOW: Duration = Duration::from_millis(200);
/// The duration of the measurement without an attack.
const BEFORE: Duration = Duration::from_millis(700);
/// The shortest duration of an attack.
const ATTACK: Duration = Duration::from_millis(1_200);
/// The most memory by which the server may grow, in KB: less than any of the attacks sends.
const GROWTH: usize = 96 << 10;
/// The most lines that the server may log.
const LINES: usize = 10_000;

/// The server under attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    operators: SocketAddr,
    began: Instant,
}

/// An attack on a server with this configuration. See [`Attack::run`].
pub(crate) fn attack<F>(configuration: &str, attacker: impl FnOnce(Target) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    Attack::on(configuration).run(attacker);
}

/// The server to attack, and its configuration.
pub(crate) struct Attack {
    folder: Folder,
    configuration: String,
    way: Way,
}

impl Attack {
    pub(crate) fn on(configuration: &str) -> Self {
        Self { folder: Folder::new(), configuration: configuration.to_owned(), way: Way::default() }
    }

    /// A file that the configuration names.
    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.folder.write(name, content);
        self
    }

    /// How honest clients connect.
    pub(crate) fn by(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// Starts the server, measures honest clients before and during the attack, and looks at the server afterwards:
    /// alive, not grown, its log not full.
    pub(crate) fn run<F>(self, attacker: impl FnOnce(Target) -> F + Send + 'static)
    where
        F: Future<Output = ()>,
    {
        raise_file_limit();
        let Self { folder, configuration, way } = self;
        let file = format!("metrics_listen = '127.0.0.1:0'\ndrain_seconds = 0\n{configuration}");
        let file = folder.write("config.toml", file);
        let (mut program, address) = Program::start("", &["--config", &file]);
        let line: serde_json::Value =
            serde_json::from_str(&program.line_with("answering operators")).unwrap();
        let operators = line["listen"].as_str().unwrap().parse().unwrap();

        let honest = Honest::start(address, way);
        thread::sleep(BEFORE);
        let resident = program.resident();
        let began = Instant::now();
        let target = Target { address, operators, began };
        let attack = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(attacker(target));
        });
        attack.join().expect("the attack hits the bound that is made for it");
        let over = Instant::now();
        let grown = program.resident().saturating_sub(resident);
        let measured = honest.stop();

        let before = median_p99(&measured.relayed, began - BEFORE, began);
        let relayed = median_p99(&measured.relayed, began, over);
        let echoed = median_p99(&measured.echoed, began, over);
        let all = p99(&measured.relayed, began, over).unwrap();
        println!(
            "p99 {before:?} before, {relayed:?} during ({all:?} of all); bare echo {echoed:?}; {grown} KB more"
        );
        assert!(
            relayed <= 2 * before.max(echoed).max(FLOOR),
            "{relayed:?} after {before:?}, echo {echoed:?}"
        );
        assert!(all <= SLOW, "{all:?}");
        assert!(grown <= GROWTH, "{grown} KB more");
        program.signal("TERM");
        assert_eq!(program.end().code(), Some(0));
        assert!(program.seen.len() < LINES, "{} lines of log", program.seen.len());
        let panicked = program.seen.iter().find(|line| line.contains("panicked"));
        assert_eq!(panicked, None);
    }
}

/// The median of the p99s of all windows in this time.
fn median_p99(samples: &[Sample], from: Instant, until: Instant) -> Duration {
    let windows = (0..).map(|n| from + n * WINDOW).take_while(|start| *start + WINDOW <= until);
    let mut p99s: Vec<Duration> = windows.filter_map(|start| p99(samples, start, start + WINDOW)).collect();
    p99s.sort();
    p99s[p99s.len() / 2]
}

/// `None`: nothing was sent in this time.
fn p99(samples: &[Sample], from: Instant, until: Instant) -> Option<Duration> {
    let sent = samples.iter().filter(|sample| (from..until).contains(&sample.sent));
    let mut took: Vec<Duration> = sent.map(|sample| sample.took).collect();
    took.sort();
    took.get(took.len() * 99 / 100).copied()
}

impl Target {
    /// Whether the attack should continue.
    pub(crate) fn goes_on(&self) -> bool {
        self.lasted() < ATTACK
    }

    /// The duration of the attack so far.
    pub(crate) fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// The same attack, beginning now.
    pub(crate) fn afresh(self) -> Self {
        Self { began: Instant::now(), ..self }
    }

    /// Connects from the nth of thousands of addresses; honest clients are elsewhere.
    pub(crate) async fn connect(&self, nth: usize) -> std::io::Result<TcpStream> {
        self.connect_with(nth, |_| {}).await
    }

    pub(crate) async fn connect_with(
        &self,
        nth: usize,
        change: impl FnOnce(&TcpSocket),
    ) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let octet = |number: usize| u8::try_from(number % 250).unwrap() + 1;
        let ip = Ipv4Addr::new(127, 2, octet(nth / 250), octet(nth));
        // The port is chosen when connecting, because that allows more connections per address.
        socket2::SockRef::from(&socket).set_tcp_user_timeout(Some(PATIENCE))?;
        socket.bind((ip, 0).into())?;
        change(&socket);
        socket.connect(self.address).await
    }

    /// The status of the answer to a WebSocket's beginning with these headers more, and the socket. 0: none came.
    pub(crate) async fn upgrade(&self, stream: TcpStream, headers: &str) -> (u16, Raw) {
        self.ask(stream, &handshake(self.address, "/", headers)).await
    }

    /// The status of the answer to a request. 0: none came.
    pub(crate) async fn ask(&self, mut stream: TcpStream, request: &str) -> (u16, Raw) {
        // The server may close the connection while the client is still writing.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut head = Vec::new();
        let reading = async {
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            std::io::Result::Ok(())
        };
        let _ = timeout(PATIENCE, reading).await.expect("an answer or an end");
        let status = head.get(9..12).and_then(|status| std::str::from_utf8(status).ok()?.parse().ok());
        (status.unwrap_or_default(), Raw { stream })
    }

    /// A WebSocket from the nth address.
    pub(crate) async fn open(&self, nth: usize) -> Raw {
        let (status, raw) = self.upgrade(self.connect(nth).await.unwrap(), "").await;
        assert_eq!(status, 101);
        raw
    }

    /// One of the server's metrics.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.operators).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}
