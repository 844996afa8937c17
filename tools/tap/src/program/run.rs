// SPDX-License-Identifier: GPL-2.0
//! `run`: a chain for a guest.

use crate::chain::{Chain, Registry};
use crate::dev::{self, Policy};
use crate::sys::os;
use crate::vdev;
use std::io::{self, Write};
use std::sync::Arc;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The guest's domain, by number
    #[arg(long, short)]
    domain: u32,
    /// Its disk: a name such as xvdb, or a number such as 51728
    #[arg(long, short = 'D', value_parser = vdev::parse)]
    device: u32,
    /// What becomes of the guest's requests if this program dies: hold, passthrough or error
    #[arg(long, default_value = "hold", value_parser = policy)]
    policy: Policy,
    /// Wait until there is such a disk and no other program has it, then take over
    #[arg(long)]
    wait: bool,
    /// Bytes of a queue's window for the guest's data; 0: as many as is usual
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    window: u32,
    /// Leave the terminal's session; say "ready" on standard output when the guest can use the disk
    #[arg(long)]
    daemon: bool,
    /// What to serve; see `extensions`
    chain: String,
}

/// Reads a policy's name.
pub(crate) fn policy(name: &str) -> Result<Policy, String> {
    match name {
        "hold" => Ok(Policy::Hold),
        "passthrough" => Ok(Policy::Passthrough),
        "error" => Ok(Policy::Error),
        _ => Err("it is hold, passthrough or error".into()),
    }
}

pub(super) fn main(registry: &Arc<Registry>, args: Args) -> io::Result<()> {
    if args.daemon {
        os::new_session()?;
    }
    let chain = Chain::parse(registry, &args.chain)?;
    let options = dev::Options {
        domid: args.domain,
        handle: args.device,
        policy: args.policy,
        wait: args.wait,
        guest_bytes: args.window,
    };
    // Whoever has started us reads this, and then no more.
    dev::run(chain, options, || {
        let mut out = io::stdout();
        let _ = writeln!(out, "ready").and_then(|()| out.flush());
    })
}
