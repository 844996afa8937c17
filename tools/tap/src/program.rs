// SPDX-License-Identifier: GPL-2.0
//! The command line of a program that has extensions.
//!
//! - `program/run.rs`: `run`, a guest's disk
//! - `program/serve.rs`: `serve`, the NBD server
//! - `program/page.rs`: the man page's end

mod page;
mod run;
mod serve;

use crate::chain::{Chain, Registry};
use crate::rt::{self, Fd};
use crate::sys::os;
use crate::{docs, op, AnyDisk, Buf, Disk};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

/// Serves a disk that is made of a chain of extensions.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Be a guest's disk, or between it and its disk, until SIGTERM or SIGINT
    Run(run::Args),
    /// Serve the disk by NBD, until SIGTERM or SIGINT
    Serve(serve::Args),
    /// Say whether a chain can be read; nothing is opened
    Check {
        /// What to read
        chain: String,
    },
    /// List the extensions and their options
    Extensions,
    /// Write the man page or a shell's completions to standard output
    #[command(hide = true)]
    Generate { what: docs::Kind },
}

/// The `main` of a program with the extensions of `registry`.
pub fn program(registry: Registry) -> ExitCode {
    let help = format!(
        "Extensions, to be put into a chain such as throttle:iops=100+raw:/srv/disk.raw:\n{}",
        registry.help()
    );
    let command = Args::command().after_long_help(help.clone());
    let args = match Args::from_arg_matches(&command.get_matches()) {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    let registry = Arc::new(registry);
    let done = match args.command {
        Command::Run(args) => run::main(&registry, args),
        Command::Serve(args) => serve::main(&registry, args),
        Command::Check { chain } => Chain::parse(&registry, &chain)
            .map(drop)
            .map_err(Into::into),
        Command::Extensions => {
            println!("{}", help.trim_end());
            Ok(())
        }
        Command::Generate { what } => {
            docs::generate(Args::command().name(name()), what, &page::end(&registry))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The `main` of a program with one filter, `name`, which `make` makes of the disk below. What else
/// it has are those of [`Registry::new`].
pub fn filter<D: Disk>(name: &'static str, make: fn(AnyDisk) -> D) -> ExitCode {
    program(Registry::new().with_filter(name, make))
}

/// What this program was called as.
fn name() -> &'static str {
    let path = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&path).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned().leak()
}

/// Reads a chain that a front without a disk of its own is to serve.
fn whole_chain(registry: &Arc<Registry>, text: &str) -> io::Result<Chain> {
    let chain = Chain::parse(registry, text)?;
    if chain.is_filter() {
        return Err(io::Error::other(format!(
            "chain \"{text}\": it ends with a filter; add the disk, as in \"{text}+raw:/srv/disk.raw\""
        )));
    }
    Ok(chain)
}

/// SIGTERM and SIGINT, which from now on end nothing by themselves.
pub(crate) struct Stop(Fd);

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        let signals = os::signals(&[libc::SIGTERM, libc::SIGINT])?;
        Ok(Self(Rc::new(signals)))
    }

    /// Waits for either.
    pub(crate) async fn wait(&self) {
        let mut info = Buf::new(128);
        while op::read_at(&self.0, &mut info, 0).await.is_err() {
            rt::yield_now().await;
        }
    }
}
