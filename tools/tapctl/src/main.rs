// SPDX-License-Identifier: GPL-2.0
//! `tapctl`: shows and changes what is tapped between guests and their disks.
//!
//! - `args.rs`: the command line
//! - `show.rs`, `top.rs`: what is shown; `json.rs`: the same for programs
//! - `program.rs`: programs in the background: start, wait, end
//! - `change.rs`: commands that change something
//! - `disk.rs`: which disk is meant
//! - `docs.rs`: the end of the man page

mod args;
mod change;
mod disk;
mod docs;
mod json;
mod program;
mod show;
mod top;

use args::{Args, Command};
use clap::{CommandFactory, Parser};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Command::List { json } => show::list(json),
        Command::Show { disk, json } => disk.find().and_then(|disk| show::show(disk, json)),
        Command::Top(args) => top::top(&args),
        Command::Attach(args) => change::attach(&args),
        Command::Detach { disk, if_any } => change::detach(&disk, if_any),
        Command::Mode { disk, mode } => change::mode(&disk, mode),
        Command::Policy { disk, policy } => change::policy(&disk, policy),
        Command::Restart { disk } => change::restart(&disk),
        Command::Upgrade(args) => change::upgrade(&args),
        Command::Generate { what } => tap::docs::generate(Args::command(), what, docs::FILES),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has gone, as with `tapctl list | head -1`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tapctl: {error}");
            ExitCode::FAILURE
        }
    }
}
