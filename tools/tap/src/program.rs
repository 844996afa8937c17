// SPDX-License-Identifier: GPL-2.0
//! The command line of a program that has extensions.
//!
//! - `program/run.rs`: `run`, a guest's disk
//! - `program/serve.rs`: `serve`, the NBD server and the block device
//! - `program/page.rs`: the man page's end

mod page;
mod run;
mod serve;

use crate::chain::{self, Chain, Registry};
use crate::rt::{self, Fd};
use crate::sys::os;
use crate::{docs, op, AnyDisk, Buf, Disk};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io::{self, IsTerminal, Write};
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
    /// Serve the disk by NBD, or as a block device, until SIGTERM or SIGINT
    Serve(serve::Args),
    /// Say how a chain is read, or what is wrong with it; nothing is opened
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

/// A command of a program, beside those that all have.
pub struct Verb {
    /// Its name, its options.
    pub command: clap::Command,
    /// What it does.
    pub run: fn(&Arc<Registry>, &clap::ArgMatches) -> io::Result<()>,
}

/// The `main` of a program with the extensions of `registry`.
pub fn program(registry: Registry) -> ExitCode {
    program_with(registry, Vec::new())
}

/// As [`program`], with commands of its own.
pub fn program_with(registry: Registry, verbs: Vec<Verb>) -> ExitCode {
    let help = format!(
        "Extensions, to be put into a chain such as throttle:iops=100+raw:/srv/disk.raw:\n{}",
        registry.help()
    );
    let command = Args::command().after_long_help(help.clone());
    let command = command.subcommands(verbs.iter().map(|verb| verb.command.clone()));
    let matches = command.clone().get_matches();
    let registry = Arc::new(registry);
    let (named, rest) = matches.subcommand().unzip();
    let mut verbs = verbs.iter();
    let verb = verbs.find(|verb| Some(verb.command.get_name()) == named);
    let done = match (verb, rest) {
        (Some(verb), Some(rest)) => (verb.run)(&registry, rest),
        _ => match Args::from_arg_matches(&matches) {
            Ok(args) => common(args.command, &registry, command, &help),
            Err(error) => error.exit(),
        },
    };
    let Err(error) = done else {
        return ExitCode::SUCCESS;
    };
    let chain = error.get_ref().and_then(|error| error.downcast_ref());
    match chain {
        // Programs read the one line.
        Some(chain) if io::stderr().is_terminal() => {
            eprintln!("error: {}", chain::Error::picture(chain));
        }
        _ => eprintln!("error: {error}"),
    }
    ExitCode::FAILURE
}

/// Writes to standard output. It is no error if the reader has gone, as with `… | head -1`.
///
/// # Errors
/// Others.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// The commands that all programs have.
fn common(
    command: Command,
    registry: &Arc<Registry>,
    line: clap::Command,
    help: &str,
) -> io::Result<()> {
    match command {
        Command::Run(args) => run::main(registry, args),
        Command::Serve(args) => serve::main(registry, args),
        Command::Check { chain } => say(&Chain::parse(registry, &chain)?.description()),
        Command::Extensions => say(help),
        Command::Generate { what } => docs::generate(line.name(name()), what, &page::end(registry)),
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
