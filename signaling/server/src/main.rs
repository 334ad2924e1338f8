//! The command `room-signaling`.

mod cli;
mod logs;
mod operator;
mod serve;

use clap::Parser;
use cli::{Cli, Command};
use room_signaling::config::Sources;

fn main() -> anyhow::Result<()> {
    match Cli::parse().what_to_do() {
        Command::Serve(args) => serve::serve(args.sources()?),
        Command::CheckConfig(args) => check_config(args.sources()?),
    }
}

fn check_config(sources: Sources) -> anyhow::Result<()> {
    for warning in sources.load()?.warnings {
        println!("warning: {warning}");
    }
    println!("ok");
    Ok(())
}
