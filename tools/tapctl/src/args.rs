// SPDX-License-Identifier: GPL-2.0
//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use tap::dev;
use tap::vdev;

/// Shows and changes what is tapped between guests and their disks
///
/// A disk is named by its guest (a domain's name or number) and its device (a name such as xvdb, or
/// the number of the virtual device). A chain of extensions is such as
/// throttle:iops=100+cow:base=/srv/a.raw,delta=/srv/b; `blktap extensions` lists them.
#[derive(Debug, Parser)]
#[command(name = "tapctl", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tapped disks
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Show a disk's rings, counters and latencies
    Show {
        #[command(flatten)]
        disk: Disk,
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Show what the tapped disks do, again and again
    Top(Top),
    /// Start a chain for a disk, in the background
    ///
    /// A chain that ends with a filter is put between the guest and its disk, while it is used;
    /// another one is the guest's disk. Returns when the guest can use it.
    Attach(Attach),
    /// End the program at a disk, and take the tap away
    ///
    /// Requests that are not answered go to the guest's own disk; where the program was the disk,
    /// they fail.
    Detach {
        #[command(flatten)]
        disk: Disk,
        /// No error if the disk has no tap
        #[arg(long)]
        if_any: bool,
    },
    /// Change which way requests go
    Mode {
        #[command(flatten)]
        disk: Disk,
        mode: Mode,
    },
    /// Change what becomes of requests when the program dies
    Policy {
        #[command(flatten)]
        disk: Disk,
        policy: Policy,
    },
    /// End the program at a disk, and start the same chain again
    ///
    /// The guest's requests wait meanwhile, whatever the policy is.
    Restart {
        #[command(flatten)]
        disk: Disk,
    },
    /// Have a new program take over from the one at a disk, under load
    Upgrade(Upgrade),
    /// Write the man page or a shell's completions to standard output
    #[command(hide = true)]
    Generate { what: tap::docs::Kind },
}

/// Which disk.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Disk {
    /// The guest: a domain's name or number
    pub domain: String,
    /// Its disk: a name such as xvdb, or a number such as 51728
    #[arg(value_parser = vdev::parse)]
    pub device: u32,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Top {
    /// Seconds between two looks
    #[arg(long, short, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..3600))]
    pub delay: u64,
    /// End after so many looks
    #[arg(long, short = 'n')]
    pub count: Option<u64>,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    pub disk: Disk,
    /// What is to serve it
    pub chain: String,
    /// What becomes of the guest's requests if the program dies
    #[arg(long, default_value = "hold")]
    pub policy: Policy,
    #[command(flatten)]
    pub with: With,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Upgrade {
    #[command(flatten)]
    pub disk: Disk,
    /// Another chain than the one that is served now
    pub chain: Option<String>,
    #[command(flatten)]
    pub with: With,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct With {
    /// The program that has the extensions; else blktap, beside tapctl or in the PATH
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Seconds to wait until the guest can use it
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub timeout: u64,
}

/// Which way requests go.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Mode {
    /// To the guest's disk
    Passthrough,
    /// Through the program, to the guest's disk
    Interpose,
    /// To the program, which is the disk
    InterceptFe,
    /// The guest's wait; the program's go to the disk
    InterceptBe,
}

impl From<Mode> for dev::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Passthrough => dev::Mode::Passthrough,
            Mode::Interpose => dev::Mode::Interpose,
            Mode::InterceptFe => dev::Mode::InterceptFe,
            Mode::InterceptBe => dev::Mode::InterceptBe,
        }
    }
}

/// What becomes of requests when the program dies.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Policy {
    /// They wait for the next program
    Hold,
    /// They go to the guest's disk
    Passthrough,
    /// They fail
    Error,
}

impl From<Policy> for dev::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Hold => dev::Policy::Hold,
            Policy::Passthrough => dev::Policy::Passthrough,
            Policy::Error => dev::Policy::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
