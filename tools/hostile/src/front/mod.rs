// SPDX-License-Identifier: GPL-2.0
//! `hostile front`: a guest that misbehaves towards its back end.
//!
//! - `device.rs`: the disk's front end, step by step
//! - `requests.rs`: requests that are wrong in themselves; one error answer each
//! - `ring.rs`: indices and notifications that are wrong; the ring stops
//! - `setup.rs`: store entries and states that are wrong; the connection is refused
//! - `shapes.rs`: many queues, many pages, pages that the back end keeps
//! - `barriers.rs`: an honest one, for whoever looks on at the back end
//! - `fuzz.rs`: random ones; `soak.rs`: exchanges of a corpus, mutated, as many as one likes
//!
//! After a scenario the device is closed and must come to rest in Closed; the next one connects it
//! anew. Only where a single request was refused the connection is kept, and shown to serve.

mod barriers;
mod device;
mod fuzz;
mod requests;
mod ring;
mod setup;
mod shapes;
mod soak;

use std::time::Duration;

use crate::args::Args;
use crate::nodes;
use crate::scenario::{self, Options, Tables};
use crate::Result;
use device::Device;

/// What the scenarios share.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) dev: Device,
    pub(crate) seed: u64,
    pub(crate) count: u64,
    /// How long `soak` lasts at most.
    pub(crate) limit: Duration,
    /// Rest in `idle`.
    pub(crate) idle: bool,
    /// The first batch of `soak`.
    pub(crate) from: u64,
    /// The back end may be one that is less strict than ours.
    pub(crate) tolerant: bool,
}

/// One way to misbehave, and what is expected of the back end.
pub(crate) type Scenario = scenario::Scenario<Lab>;

/// All of them, in the order in which `all` runs them.
const ALL: Tables<Lab> = &[
    requests::SCENARIOS,
    ring::SCENARIOS,
    setup::SCENARIOS,
    shapes::SCENARIOS,
    barriers::SCENARIOS,
    fuzz::SCENARIOS,
    soak::SCENARIOS,
];

/// The command.
pub(crate) fn main(mut args: Args) -> Result<u8> {
    if args.flag("--list") {
        scenario::list(ALL);
        return Ok(0);
    }
    let device = args.value("--device")?;
    let options = Options::take(&mut args)?;
    let idle = args.flag("--rest");
    let chosen = scenario::choose(ALL, &args.rest()?)?;
    let device = match device {
        Some(d) => d,
        None => nodes::only_device("vbd")?,
    };
    let mut lab = Lab {
        dev: Device::open(device, options.timeout)?,
        seed: options.seed,
        count: options.count,
        from: options.from,
        limit: options.limit,
        idle,
        tolerant: options.tolerant,
    };
    let code = scenario::run(&chosen, &mut lab, |lab, scenario| {
        scenario.run_and_end(lab, |lab| lab.dev.spoilt(), |lab| lab.dev.end_scenario())
    });
    if chosen.iter().all(|s| s.reusable) {
        lab.dev.close()?;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_fit_the_list() {
        crate::scenario::check_names(super::ALL);
    }
}
