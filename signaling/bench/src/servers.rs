//! The servers that are compared: how each is started, on a processor of its own, and what it costs.

use anyhow::{Context, Result, bail, ensure};
use rustix::{process::Pid, thread::CpuSet};
use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Processors: one for the server, the other for the generator.
const SERVER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;
const PATIENCE: Duration = Duration::from_secs(10);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Ours,
    Python,
    Gst,
    /// No server, but what the system takes of each.
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

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) ours: PathBuf,
    /// What it is started with.
    pub(crate) config: PathBuf,
    pub(crate) python: PathBuf,
    pub(crate) python_server: PathBuf,
    /// None: it takes no part.
    pub(crate) gst: Option<PathBuf>,
    /// This too.
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
                let mut command = Command::new(self.bare.as_ref().context("bare takes no part")?);
                command.arg(port);
                command
            }
            Kind::Gst => {
                let mut command = Command::new(self.gst.as_ref().context("gst-webrtc takes no part")?);
                command.args(["--host", "127.0.0.1", "--port", &port]);
                command.env("WEBRTCSINK_SIGNALLING_SERVER_LOG", "error");
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// The size of the stripped program in bytes. Python's is a script.
    pub(crate) fn size(&self, kind: Kind) -> Result<Option<u64>> {
        let program = match kind {
            Kind::Ours => &self.ours,
            Kind::Gst => self.gst.as_ref().context("gst-webrtc takes no part")?,
            Kind::Python | Kind::Bare => return Ok(None),
        };
        let stripped = tempfile::NamedTempFile::new()?;
        let status = Command::new("strip").arg("-o").arg(stripped.path()).arg(program).status();
        ensure!(status.context("strip (binutils) is needed")?.success(), "can't strip {}", program.display());
        Ok(Some(fs::metadata(stripped.path())?.len()))
    }
}

/// A server that runs. Ends when dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts one, and returns as soon as it takes connections.
    pub(crate) fn start(programs: &Programs, kind: Kind) -> Result<Self> {
        // Free now; nobody else asks for ports here meanwhile.
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
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{kind} ended at once: {status}");
            }
            ensure!(Instant::now() < deadline, "{kind} doesn't listen within {PATIENCE:?}");
            // Not asleep: the processor is its own, and how soon it wakes is no matter of the server.
            std::hint::spin_loop();
        }
        Ok(())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The time that all its threads have run so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> Result<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(self.proc("task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let field = text.split_whitespace().next().context("an empty schedstat")?;
            nanoseconds += field.parse::<f64>()?;
        }
        Ok(nanoseconds / 1e3)
    }

    /// The memory that is its own, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        let text = fs::read_to_string(self.proc("smaps_rollup"))?;
        let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
        let kilobytes = line.split_whitespace().nth(1).context("no size in Pss")?;
        Ok(kilobytes.parse::<u64>()? * 1024)
    }

    /// The memory that it has in use, in bytes: quick to read.
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
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Moves this thread, and what it starts from now on, to one processor.
pub(crate) fn move_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None::<Pid>, &set)
        .with_context(|| format!("processor {cpu} is needed: the benchmark takes two"))
}
