// SPDX-License-Identifier: GPL-2.0
//! `hostile netfront`: a guest that misbehaves towards the back end of its interface.
//!
//! - `vif.rs`: the interface's front end, step by step; `vif/exchange.rs`: what is sent and received;
//!   `vif/verify.rs`: whether it works
//! - `packets.rs`: packets that are wrong in themselves: refused, or the interface is disabled
//! - `ring.rs`: indices, events and pages to receive into that are wrong
//! - `control.rs`: the control ring, and multicast addresses
//! - `setup.rs`: store entries and states that are wrong; the connection is refused
//! - `fuzz.rs`: random ones, as many as one likes
//!
//! After a scenario the device is closed and must come to rest in Closed; the next one connects it
//! anew. Only where a single packet was refused the connection is kept, and shown to serve.

mod control;
mod fuzz;
mod packets;
mod ring;
mod setup;
mod vif;

use crate::args::Args;
use crate::nodes;
use crate::scenario::{self, Options, Tables};
use crate::Result;
use vif::Vif;

/// What the scenarios share.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) vif: Vif,
    pub(crate) options: Options,
    /// One in so many of the random packets ends the interface.
    pub(crate) fatal: u64,
}

/// One way to misbehave, and what is expected of the back end.
pub(crate) type Scenario = scenario::Scenario<Lab>;

/// All of them, in the order in which `all` runs them.
const ALL: Tables<Lab> = &[
    packets::SCENARIOS,
    ring::SCENARIOS,
    control::SCENARIOS,
    setup::SCENARIOS,
    fuzz::SCENARIOS,
];

/// The command.
pub(crate) fn main(mut args: Args) -> Result<u8> {
    if args.flag("--list") {
        scenario::list(ALL);
        return Ok(0);
    }
    let device = args.value("--device")?;
    let fatal = args.value("--fatal")?.unwrap_or(100);
    let options = Options::take(&mut args)?;
    let chosen = scenario::choose(ALL, &args.rest()?)?;
    let device = match device {
        Some(d) => d,
        None => nodes::only_device("vif")?,
    };
    let vif = Vif::open(device, options.timeout)?;
    let mut lab = Lab {
        vif,
        options,
        fatal,
    };
    let code = scenario::run(&chosen, &mut lab, |lab, scenario| {
        scenario.run_and_end(lab, |lab| lab.vif.spoilt(), |lab| lab.vif.end_scenario())
    });
    if chosen.iter().all(|s| s.reusable) {
        lab.vif.close()?;
    }
    // Each of them has cost the back end a message.
    println!("# disabled {} times", lab.vif.stopped);
    Ok(code)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_fit_the_list() {
        crate::scenario::check_names(super::ALL);
    }
}
