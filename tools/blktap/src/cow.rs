// SPDX-License-Identifier: GPL-2.0
//! `map` and `commit`: the delta of the extension `cow`, while nobody serves it.

use crate::progress::Progress;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use extensions::cow;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tap::chain::{Chain, Registry};
use tap::{rt, say, Verb};

pub fn verbs() -> Vec<Verb> {
    vec![
        Verb {
            command: Map::command(),
            run: |_, matches| map(parsed(matches)?),
        },
        Verb {
            command: Commit::command(),
            run: |registry, matches| commit(registry, parsed(matches)?),
        },
    ]
}

fn parsed<T: FromArgMatches>(matches: &ArgMatches) -> io::Result<T> {
    T::from_arg_matches(matches).map_err(io::Error::other)
}

/// Show what of a disk is in its delta, that of the extension cow
///
/// From a delta that is in use, or whose program was killed, it shows what was so at the last flush.
#[derive(Parser)]
#[command(name = "map")]
struct Map {
    /// All of the disk, as `qemu-img map --output=json` has it: depth 0 is the delta, 1 the base
    #[arg(long)]
    json: bool,
    /// The delta's path
    delta: PathBuf,
}

fn map(args: Map) -> io::Result<()> {
    let changes = rt::run(async move { cow::changes(&args.delta).await })??;
    say(&match args.json {
        true => changes.to_json(),
        false => changes.to_text(),
    })
}

/// Write what is in a delta of the extension cow into the base, and empty the delta
///
/// Nobody may have either open. It can be ended at any moment and done again: base and delta together
/// are the same disk at any time.
#[derive(Parser)]
#[command(name = "commit")]
struct Commit {
    /// Say what was done, for programs
    #[arg(long)]
    json: bool,
    /// No progress on the terminal
    #[arg(long, short)]
    quiet: bool,
    /// The delta's path
    delta: PathBuf,
    /// The base: a path, or a chain such as qcow2:/srv/a.qcow2
    base: String,
}

fn commit(registry: &Arc<Registry>, args: Commit) -> io::Result<()> {
    let chain = Chain::parse(registry, &args.base)?;
    if chain.is_filter() {
        let what = format!("base \"{}\": it is a filter, and no disk", args.base);
        return Err(io::Error::other(what));
    }
    let changes = rt::run(async move {
        // Before the base is touched.
        cow::changes(&args.delta).await?;
        let base = chain.open(None).await?;
        let mut progress = Progress::new("commit", args.quiet);
        let show = |done, total| progress.show(done, total);
        let done = cow::commit(&base, &args.delta, show).await;
        drop(progress);
        let closed = base.close().await;
        done.and_then(|changes| closed.map(|()| changes))
    })??;
    let (changed, size) = (changes.changed(), changes.size);
    say(&match args.json {
        true => format!("{{ \"committed\": {changed}, \"size\": {size} }}\n"),
        false => format!("{changed} of {size} bytes committed\n"),
    })
}
