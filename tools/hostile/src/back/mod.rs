// SPDX-License-Identifier: GPL-2.0
//! `hostile back`: a back end that misbehaves towards a guest's real front end.
//!
//! - `device.rs`: the disk's back end, step by step
//! - `responses.rs`: responses and indices that are wrong; the front end gives the disk up
//! - `discard.rs`: discards, offered and taken back
//! - `setup.rs`: store entries and states that are wrong
//! - `shapes.rs`: offers of many queues, pages and segments, and pages that are kept mapped
//! - `fuzz.rs`: random ones; `soak.rs`: an honest exchange, mutated, as many as one likes
//!
//! Every scenario has a disk of its own, made and removed. Afterwards the guest must have as many
//! references granted to dom0, and dom0 as many mapped, as before.

mod device;
mod discard;
mod fuzz;
mod responses;
mod setup;
mod shapes;
mod soak;

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::ktap::Outcome;
use crate::scenario::{self, Options, Tables};
use crate::{ensure, Result};
use device::Device;

/// What the scenarios share.
#[derive(Debug)]
pub(crate) struct Lab {
    guest: u16,
    number: u64,
    timeout: Duration,
    poke: String,
    pub(crate) load: Option<String>,
    pub(crate) reread: Option<String>,
    pub(crate) irqs: Option<String>,
    pub(crate) seed: u64,
    pub(crate) count: u64,
    /// How long `soak` lasts at most.
    pub(crate) limit: Duration,
    /// The first disk of `soak`.
    pub(crate) from: u64,
    /// The front end may be one that is less strict than ours.
    pub(crate) tolerant: bool,
    /// The next disk's number is one for `virtual-device-ext`.
    pub(crate) extended: bool,
    made: u64,
    /// The guest has not let go of a disk: it cannot be trusted with another.
    stuck: bool,
}

impl Lab {
    /// Runs `f` with a new disk, removes the disk, and counts.
    pub(crate) fn with(
        &mut self,
        f: impl FnOnce(&mut Device) -> Result<Outcome>,
    ) -> Result<Outcome> {
        let before = Device::grants(self.guest)?;
        // A number of its own each time: the guest may still be taking the last one away.
        let number = self.number + 16 * (self.made % 8);
        self.made += 1;
        let mut dev = Device::create(self.guest, number, self.extended, &self.poke, self.timeout)?;
        let result = f(&mut dev);
        let removed = dev
            .destroy(self.tolerant)
            .map_err(|e| format!("teardown: {e}"));
        self.stuck = removed.is_err();
        let outcome = result?;
        removed?;
        let until = Instant::now() + self.timeout;
        loop {
            let after = Device::grants(self.guest)?;
            if after.granted <= before.granted && after.mapped <= before.mapped {
                return Ok(outcome);
            }
            ensure!(
                Instant::now() < until,
                "grants before {before:?}, after {after:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// One way to misbehave, and what is expected of the front end.
pub(crate) type Scenario = scenario::Scenario<Lab>;

/// All of them, in the order in which `all` runs them.
const ALL: Tables<Lab> = &[
    responses::SCENARIOS,
    setup::SCENARIOS,
    discard::SCENARIOS,
    shapes::SCENARIOS,
    fuzz::SCENARIOS,
    soak::SCENARIOS,
];

/// The command.
pub(crate) fn main(mut args: Args) -> Result<u8> {
    if args.flag("--list") {
        scenario::list(ALL);
        return Ok(0);
    }
    let options = Options::take(&mut args)?;
    let mut lab = Lab {
        guest: args.value("--guest")?.ok_or("which --guest?")?,
        number: args.value("--device")?.unwrap_or(51760),
        timeout: options.timeout,
        poke: args
            .value("--poke")?
            .ok_or("back needs a --poke; see `hostile --help`")?,
        load: args.value("--load")?,
        reread: args.value("--reread")?,
        irqs: args.value("--irqs")?,
        limit: options.limit,
        from: options.from,
        seed: options.seed,
        count: options.count,
        tolerant: options.tolerant,
        extended: false,
        made: 0,
        stuck: false,
    };
    let chosen = scenario::choose(ALL, &args.rest()?)?;
    Ok(scenario::run(&chosen, &mut lab, |lab, scenario| {
        ensure!(!lab.stuck, "not tried: the guest is stuck");
        (scenario.run)(lab)
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_fit_the_list() {
        crate::scenario::check_names(super::ALL);
    }
}
