// SPDX-License-Identifier: GPL-2.0
//! `hostile`: both ends of a virtual disk, and of a virtual network interface, misbehaving on purpose.
//!
//! | file | what it is |
//! |---|---|
//! | `args.rs` | the command line |
//! | `ktap.rs` | results, one line a scenario |
//! | `scenario.rs` | tables of scenarios, chosen and run |
//! | `nodes.rs` | a device's store entries and states |
//! | `wire.rs` | a disk's requests and responses as bytes, well-formed or not |
//! | `random.rs` | a small seeded generator |
//! | `front/` | the front end of a disk in a guest's user space, and its scenarios |
//! | `back/` | the back end of a disk in dom0's user space, and its scenarios |
//! | `net/` | both ends of an interface |
//! | `count.rs` | a guest's grants, counted from dom0 |
//!
//! The wire format of disks is written down here a second time, apart from the `protocol` crate of the
//! drivers: a mistake in one shows as a disagreement of the two.

mod args;
mod back;
mod count;
mod front;
mod ktap;
mod net;
mod nodes;
mod random;
mod scenario;
mod wire;

use std::process::ExitCode;

/// What a scenario or a command ends with.
pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Ends a function with an error made of the format arguments unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($cond:expr, $($arg:tt)+) => {
        if !$cond {
            return Err(format!($($arg)+).into());
        }
    };
}

fn main() -> ExitCode {
    let mut args = args::Args::from_env();
    let done = match args.next().as_deref() {
        Some("front") => front::main(args),
        Some("back") => back::main(args),
        Some("netfront") => net::front::main(args),
        Some("netback") => net::back::main(args),
        Some("grants") => count::main(args),
        Some("help" | "--help" | "-h") => {
            print!("{}", args::HELP);
            Ok(0)
        }
        _ => {
            eprint!("{}", args::HELP);
            Ok(2)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            eprintln!("hostile: {e}");
            ExitCode::from(2)
        }
    }
}
