//! Loads room-signaling and other servers in turn on the loopback interface, and compares their costs.
//!
//! The servers run on one processor, and this program on another. Every row starts its own servers. A round measures each
//! server once, so that a machine that becomes slower affects all of them. The results are the medians of the rounds: one
//! line of JSON for each row on standard output, then a table on standard error. The exit status is 1 if a goal is missed.

mod crowd;
mod dialect;
mod everything;
mod frames;
mod report;
mod rows;
mod servers;

use anyhow::{Result, ensure};
use clap::Parser;
use dialect::Dialect;
use everything::Everything;
use report::Report;
use rows::{Effort, Row};
use servers::{Kind, Programs};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// Compares room-signaling with other signaling servers under load
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// The release build of room-signaling
    #[arg(long, value_name = "FILE")]
    server: PathBuf,

    /// A Python interpreter with the package websockets
    #[arg(long, value_name = "FILE")]
    python: PathBuf,

    /// gst-webrtc-signalling-server, to include it in the comparison
    #[arg(long, value_name = "FILE")]
    gst: Option<PathBuf>,

    /// room-bare, to measure the share of the operating system
    #[arg(long, value_name = "FILE")]
    bare: Option<PathBuf>,

    /// Only these rows, separated by commas [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    rows: Vec<String>,

    /// The number of measurements of each server in each row
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// The duration of each timed measurement, in seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,

    /// The number of connections in the rows connect and memory
    #[arg(long, default_value_t = 2_000)]
    connections: usize,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let rows = cli.chosen_rows()?;
    let everything = Everything::on(&cli.server)?;
    let programs = Programs {
        ours: cli.server,
        config: everything.config(),
        python: cli.python,
        python_server: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/python_server.py")),
        gst: cli.gst,
        bare: cli.bare,
    };
    let effort = Effort {
        time: Duration::try_from_secs_f64(cli.seconds)?,
        connections: cli.connections,
        broadcasts: 30,
    };
    let mut kinds = vec![Kind::Ours, Kind::Python];
    kinds.extend(programs.gst.as_ref().map(|_| Kind::Gst));
    kinds.extend(programs.bare.as_ref().map(|_| Kind::Bare));
    let servers: Vec<_> =
        kinds.into_iter().map(|kind| (kind, Dialect::of(kind, &everything.token))).collect();
    // This process has one end of each connection.
    rlimit::increase_nofile_limit(u64::MAX)?;

    let mut report = Report::default();
    for row in rows {
        for _ in 0..cli.rounds {
            for (kind, numbers) in row.round(&programs, &servers, effort)? {
                report.add(row, kind, numbers);
            }
        }
        println!("{}", report.line(row));
    }
    eprint!("{}", report.table());
    Ok(if report.is_missed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Cli {
    fn chosen_rows(&self) -> Result<Vec<Row>> {
        let chosen = |row: &Row| self.rows.is_empty() || self.rows.iter().any(|name| name == row.name());
        let rows: Vec<Row> = Row::ALL.into_iter().filter(chosen).collect();
        let names: Vec<&str> = Row::ALL.into_iter().map(Row::name).collect();
        ensure!(
            self.rows.iter().all(|name| names.contains(&name.as_str())),
            "--rows must be a list of these: {}",
            names.join(", ")
        );
        Ok(rows)
    }
}
