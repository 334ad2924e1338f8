//! The command `room-signaling`.

mod ask;
mod cli;
mod files;
mod flags;
mod journal;
mod lines;
mod logs;
mod operate;
mod operator;
mod rooms;
mod serve;
mod users;

use anyhow::{Context, bail};
use ask::{Local, Trust};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use cli::{Cli, Command, Later};
use mimalloc::MiMalloc;
use room_signaling_server::settings::Sources;
use serde_json::json;
use std::{path::Path, time::SystemTime};

/// A crowd comes and goes in small pieces of memory: this takes less time for them than the system's allocators.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> anyhow::Result<()> {
    let result = run(Cli::parse().what_to_do());
    lines::flush();
    result
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(Later(args)) => serve::serve(args.sources()),
        Command::CheckConfig(Later(args)) => check_config(args.sources()),
        Command::Healthcheck(Later(args)) => check_health(args.sources()),
        Command::TurnCredentials(Later(args)) => print_turn_credentials(args.serve.sources(), args.name),
        Command::Rooms(Later(args)) => rooms::print(&args.serve.sources(), args.json),
        Command::Kick(Later(args)) => operate::kick(args),
        Command::CloseRoom(Later(args)) => operate::close_room(args),
        Command::Deny(Later(args)) => operate::deny(args),
        Command::Allow(Later(args)) => operate::allow(args),
        Command::Denied(Later(args)) => operate::denied(args),
        Command::Token(Later(args)) => users::token(args),
        Command::HashPassword => users::hash(),
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

/// Whether the server serves. That its file may be wrong meanwhile is no matter of its health.
fn check_health(sources: Sources) -> anyhow::Result<()> {
    let answer = Local::new(&sources.settings(), Trust::Anybody)?.get("/healthz", "")?;
    if answer.status != 200 {
        bail!("/healthz answers {}: {}", answer.status, answer.body.trim_end());
    }
    Ok(())
}

/// Prints what `joined` would carry.
fn print_turn_credentials(sources: Sources, name: Option<String>) -> anyhow::Result<()> {
    let hub = sources.load()?.config.hub;
    let turn = hub.turn.context("no TURN server with time-limited credentials is configured: see [turn]")?;
    let unix =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the clock is before 1970")?;
    let mut random = [0; 8];
    getrandom::fill(&mut random)?;
    let name = name.unwrap_or_else(|| format!("{:016x}", u64::from_be_bytes(random)));
    let mut servers = hub.ice_servers;
    servers.push(turn.ice_server(unix, &name));
    let carried = json!({"ice_servers": servers, "ice_ttl_s": turn.ttl.as_secs()});
    println!("{carried:#}");
    Ok(())
}

/// Writes what goes with the program where it is installed.
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
