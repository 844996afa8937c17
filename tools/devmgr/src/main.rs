// SPDX-License-Identifier: GPL-2.0
//! `devmgr`: looks after driver domains.
//!
//! A driver domain serves devices to other guests. When it has died, or its heart stands still, what
//! is left of it is destroyed, it is started again from its xl configuration file, and every device
//! that it served is attached again, under the same name to the same guest. A front end that keeps
//! its disk or interface meanwhile sees a pause, and no error.
//!
//! | file | what it is |
//! |---|---|
//! | `args.rs` | the command line |
//! | `config.rs` | what is read in an xl configuration file |
//! | `device.rs` | a device that is served: read from the store, remembered, attached by xl |
//! | `memory.rs` | all devices of a driver domain, kept in a file |
//! | `heart.rs` | whether a heart beats |
//! | `xl.rs` | calls of xl |
//! | `plain.rs` | what the hotplug script does for a plain block device |
//! | `guard.rs` | one driver domain's guard: watches it, and notes what it serves |
//! | `restart.rs` | the guard's part that starts the domain again; `spare.rs`: one that is ready |
//! | `attach.rs` | attaches disks, and has interfaces attached; `vif.rs`: these |
//! | `log.rs` | lines with the time |

mod args;
mod attach;
mod config;
mod device;
mod guard;
mod heart;
mod log;
mod memory;
mod plain;
mod restart;
mod spare;
mod vif;
mod xl;

use args::{Args, Command, Run};
use clap::Parser;
use guard::Guard;
use std::process::ExitCode;
use std::thread;

/// What a step ends with.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    // A wrong command line ends here, with code 2.
    let done = match Args::parse().command {
        Command::Run(run) => manage(run),
        Command::Heartbeat(heartbeat) => heart::beat(&heartbeat),
        Command::List(list) => memory::print(&list.state),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            log::line("", format_args!("{e}"));
            ExitCode::FAILURE
        }
    }
}

/// A thread for each driver domain: the recovery of one does not wait for that of another.
fn manage(run: Run) -> Result {
    let mut guards = Vec::new();
    for path in &run.configs {
        guards.push(Guard::new(path, &run)?);
    }
    for (i, guard) in guards.iter().enumerate() {
        if guards[..i].iter().any(|other| other.name() == guard.name()) {
            return Err(format!("two configurations are of domain {}", guard.name()).into());
        }
    }
    let threads: Vec<_> = guards
        .into_iter()
        .map(|guard| {
            thread::spawn(move || {
                let name = guard.name().to_string();
                if let Err(e) = guard.run() {
                    // Whoever starts devmgr again starts all its guards.
                    log::line(&name, format_args!("{e}"));
                    std::process::exit(1);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a guard has died")?;
    }
    Ok(())
}
