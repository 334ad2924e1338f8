//! The servers in the comparison: starts each on its own processor, and measures its costs.

use anyhow::{Context, Result, bail, ensure};
use rustix::{process::Pid, thread::CpuSet};
use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The processors of the server and of the load generator.
const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;
const TIMEOUT: Duration = Duration::from_secs(10);

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Ours,
    Python,
    Gst,
    /// The echo loop of `bare.rs`, which shows the share of the operating system.
    Bare,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ours => "room-signaling",
            Kind::Python => "python",
            Kind::Gst => "gst-webrtc",
            Kind::Bare => "bare",
        })
    }
}

/// The paths of the programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) ours: PathBuf,
    /// The configuration of room-signaling.
    pub(crate) config: PathBuf,
    pub(crate) python: PathBuf,
    pub(crate) python_server: PathBuf,
    /// `None`: it is not compared.
    pub(crate) gst: Option<PathBuf>,
    /// `None`: it is not compared.
    pub(crate) bare: Option<PathBuf>,
}

impl Programs {
    fn command(&self, kind: Kind, port: u16) -> Result<Command> {
        let port = port.to_string();
        let mut command = match kind {
            Kind::Ours => {
                let mut command = Command::new(&self.ours);
                command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--log-level", "error"]);
                command.arg("--config").arg(&self.config);
                command
            }
            Kind::Python => {
                let mut command = Command::new(&self.python);
                command.arg(&self.python_server).arg(port);
                command
            }
            Kind::Bare => {
                let mut command = Command::new(self.bare.as_ref().context("--bare is missing")?);
                command.arg(port);
                command
            }
            Kind::Gst => {
                let mut command = Command::new(self.gst.as_ref().context("--gst is missing")?);
                command.args(["--host", "127.0.0.1", "--port", &port]);
                command.env("WEBRTCSINK_SIGNALLING_SERVER_LOG", "error");
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// The size of the stripped program, in bytes. `None`: it is a script, or only for comparison.
    pub(crate) fn size(&self, kind: Kind) -> Result<Option<u64>> {
        let program = match kind {
            Kind::Ours => &self.ours,
            Kind::Gst => self.gst.as_ref().context("--gst is missing")?,
            Kind::Python | Kind::Bare => return Ok(None),
        };
        let stripped = tempfile::NamedTempFile::new()?;
        let status = Command::new("strip").arg("-o").arg(stripped.path()).arg(program).status();
        ensure!(status.context("strip (binutils) is needed")?.success(), "can't strip {}", program.display());
        Ok(Some(fs::metadata(stripped.path())?.len()))
    }
}

/// A running server. Dropping it ends the server.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a server, and returns as soon as it accepts connections.
    pub(crate) fn start(programs: &Programs, kind: Kind) -> Result<Self> {
        // The port is free, and no other program on this machine asks for one meanwhile.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = programs.command(kind, address.port())?;
        move_to(SERVER_CPU)?;
        let child = command.spawn();
        move_to(GENERATOR_CPU)?;
        let mut server =
            Self { child: child.with_context(|| format!("can't start {kind}: {command:?}"))?, address };
        server.wait(kind)?;
        Ok(server)
    }

    fn wait(&mut self, kind: Kind) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{kind} ended immediately: {status}");
            }
            ensure!(Instant::now() < deadline, "{kind} doesn't listen within {TIMEOUT:?}");
            // A sleep would add its wake-up time to the measurement. This thread has its own processor.
            std::hint::spin_loop();
        }
        Ok(())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The processor time of all its threads so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(self.proc("task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let field = text.split_whitespace().next().context("an empty schedstat")?;
            nanoseconds += field.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e3)
    }

    /// Its proportional share of memory (PSS), in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let text = fs::read_to_string(self.proc("smaps_rollup"))?;
        let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
        let kilobytes = line.split_whitespace().nth(1).context("no size in Pss")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    }

    /// Its resident memory, in bytes. It is quick to read.
    pub(crate) fn resident(&self) -> Result<u64> {
        let text = fs::read_to_string(self.proc("statm"))?;
        let pages: u64 = text.split_whitespace().nth(1).context("no size in statm")?.parse()?;
        Ok(pages * rustix::param::page_size() as u64)
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves this thread, and all processes that it starts from now on, to one processor.
pub(crate) fn move_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None::<Pid>, &set)
        .with_context(|| format!("processor {cpu} is missing: the benchmark needs two"))
}
