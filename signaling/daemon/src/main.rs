//! The program `room-signaling`.
//!
//! `cli.rs` defines the commands, and `flags.rs` the flags that override the configuration. `commands/` runs the commands;
//! `local_server.rs` sends the requests of those that need a running server. `service.rs` handles signals and systemd,
//! `log/` writes the log.

#![forbid(unsafe_code)]

mod cli;
mod commands;
mod flags;
mod local_server;
mod log;
mod open_files;
mod service;

use anyhow::{Context, bail};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use cli::{Cli, Command, Deferred};
use commands::{admin, credentials, rooms, serve};
use local_server::{LocalServer, Trust};
use mimalloc::MiMalloc;
use room_signaling_server::settings::Sources;
use serde_json::json;
use std::{path::Path, time::SystemTime};

/// Thousands of connections allocate many small pieces of memory. mimalloc takes less time for them than the allocators of
/// the system.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    let result = run(Cli::parse().into_command());
    log::flush();
    result
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(Deferred(args)) => serve::serve(args.sources()),
        Command::CheckConfig(Deferred(args)) => check_config(args.sources()),
        Command::Healthcheck(Deferred(args)) => check_health(args.sources()),
        Command::TurnCredentials(Deferred(args)) => print_turn_credentials(args.serve.sources(), args.name),
        Command::Rooms(Deferred(args)) => rooms::print(&args.serve.sources(), args.json),
        Command::Kick(Deferred(args)) => admin::kick(args),
        Command::CloseRoom(Deferred(args)) => admin::close_room(args),
        Command::Deny(Deferred(args)) => admin::deny(args),
        Command::Allow(Deferred(args)) => admin::allow(args),
        Command::Denied(Deferred(args)) => admin::denied(args),
        Command::Token(Deferred(args)) => credentials::token(args),
        Command::HashPassword => credentials::hash(),
        Command::Generate { folder } => generate(&folder),
    }
}

fn check_config(sources: Sources) -> anyhow::Result<()> {
    for warning in sources.load()?.warnings {
        println!("warning: {warning}");
    }
    println!("ok");
    Ok(())
}

/// Checks that the server answers. A configuration file that has become invalid since its start does not make it unhealthy.
fn check_health(sources: Sources) -> anyhow::Result<()> {
    let response = LocalServer::new(&sources.settings(), Trust::AnyCertificate)?.get("/healthz", "")?;
    if response.status != 200 {
        bail!("/healthz answers {}: {}", response.status, response.body.trim_end());
    }
    Ok(())
}

/// Prints the ICE servers that a `joined` would carry.
fn print_turn_credentials(sources: Sources, name: Option<String>) -> anyhow::Result<()> {
    let hub = sources.load()?.config.hub;
    let turn = hub.turn.context(
        "no TURN server with time-limited credentials is configured: set turn.urls and turn.secret_file",
    )?;
    let unix = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("the clock shows a time before 1970")?;
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let name = name.unwrap_or_else(|| format!("{:016x}", u64::from_be_bytes(random)));
    let mut servers = hub.ice_servers;
    servers.push(turn.ice_server(unix, &name));
    let printed = json!({"ice_servers": servers, "ice_ttl_s": turn.ttl.as_secs()});
    println!("{printed:#}");
    Ok(())
}

/// Writes the files that are installed with the program: the manual page and shell completions.
fn generate(folder: &Path) -> anyhow::Result<()> {
    let mut command = Cli::command();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    std::fs::write(folder.join("room-signaling.1"), page)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "room-signaling", folder)?;
    }
    Ok(())
}
