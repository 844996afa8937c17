// SPDX-License-Identifier: GPL-2.0
//! `hostile netback`: a back end that misbehaves towards a guest's real network front end.
//!
//! - `vif.rs`: the interface's back end, step by step; `vif/exchange.rs`: what is sent and received;
//!   `vif/verify.rs`: whether it works
//! - `tx.rs`: answers to what the guest sends that are wrong; the front end gives the interface up
//! - `rx.rs`: packets for the guest that are wrong; the front end drops them
//! - `xdp.rs`: either, while the guest runs a program on what it receives
//! - `setup.rs`: store entries and states that are wrong
//! - `fuzz.rs`: random ones, as many as one likes
//!
//! Every scenario has an interface of its own, made and removed. Afterwards the guest must have as
//! many references granted to dom0, and dom0 as many mapped, as before.

mod fuzz;
mod rx;
mod setup;
mod tx;
mod vif;
mod xdp;

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::ktap::Outcome;
use crate::scenario::{self, Options, Tables};
use crate::{ensure, Result};
use vif::Vif;
use xen::privcmd::Grants;

/// What the scenarios share.
#[derive(Debug)]
pub(crate) struct Lab {
    guest: u16,
    number: u64,
    /// The command of `--program`.
    program: Option<String>,
    pub(crate) options: Options,
    made: u64,
    /// How often the front end was seen to have given the interface up.
    pub(crate) stopped: u64,
    /// The guest has not let go of an interface: it cannot be trusted with another.
    stuck: bool,
    /// The most grants that the guest has had between two scenarios. It has fewer while its other
    /// interface is in use.
    most: u32,
}

impl Lab {
    /// A new interface.
    pub(crate) fn make(&mut self, mac: &str) -> Result<Vif> {
        // A number of its own each time: the guest may still be taking the last one away.
        let number = self.number + self.made % 8;
        self.made += 1;
        let mut vif = Vif::create(self.guest, number, mac, self.options.timeout)?;
        vif.program.clone_from(&self.program);
        Ok(vif)
    }

    /// The grants that there may be without an interface of ours.
    fn before(&mut self) -> Result<Grants> {
        let first = self.most == 0;
        let mut now = Vif::grants(self.guest)?;
        for _ in 0..if first { 10 } else { 0 } {
            self.most = self.most.max(now.granted);
            std::thread::sleep(Duration::from_millis(100));
            now = Vif::grants(self.guest)?;
        }
        self.most = self.most.max(now.granted);
        now.granted = self.most;
        Ok(now)
    }

    /// Runs `f` with a new interface, removes that, and counts.
    pub(crate) fn with(&mut self, f: impl FnOnce(&mut Vif) -> Result) -> Result<Outcome> {
        self.with_mac("", f)
    }

    /// The same, with a hardware address of its own.
    pub(crate) fn with_mac(
        &mut self,
        mac: &str,
        f: impl FnOnce(&mut Vif) -> Result,
    ) -> Result<Outcome> {
        let before = self.before()?;
        let mut vif = self.make(mac)?;
        let result = f(&mut vif);
        let removed = vif.destroy().map_err(|e| format!("teardown: {e}"));
        self.stuck = removed.is_err();
        result?;
        removed?;
        let until = Instant::now() + self.options.timeout;
        loop {
            let after = Vif::grants(self.guest)?;
            if after.granted <= before.granted && after.mapped <= before.mapped {
                return Ok(Outcome::Passed);
            }
            ensure!(
                Instant::now() < until,
                "grants before {before:?}, after {after:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// [`Lab::with`] of an interface that serves, then does `wrong`, and is given up.
    pub(crate) fn stopped(
        &mut self,
        what: impl std::fmt::Display,
        wrong: impl FnOnce(&mut Vif) -> Result,
    ) -> Result {
        self.with(|vif| {
            vif.connect()?;
            vif.find_guest()?;
            wrong(vif)?;
            vif.expect_stopped()
        })
        .map_err(|e| format!("{what}: {e}"))?;
        self.stopped += 1;
        Ok(())
    }
}

/// One way to misbehave, and what is expected of the front end.
pub(crate) type Scenario = scenario::Scenario<Lab>;

/// All of them, in the order in which `all` runs them.
const ALL: Tables<Lab> = &[
    tx::SCENARIOS,
    rx::SCENARIOS,
    xdp::SCENARIOS,
    setup::SCENARIOS,
    fuzz::SCENARIOS,
];

/// The command.
pub(crate) fn main(mut args: Args) -> Result<u8> {
    if args.flag("--list") {
        scenario::list(ALL);
        return Ok(0);
    }
    let mut lab = Lab {
        guest: args.value("--guest")?.ok_or("which --guest?")?,
        number: args.value("--device")?.unwrap_or(16),
        program: args.value("--program")?,
        options: Options::take(&mut args)?,
        made: 0,
        stopped: 0,
        stuck: false,
        most: 0,
    };
    let chosen = scenario::choose(ALL, &args.rest()?)?;
    let code = scenario::run(&chosen, &mut lab, |lab, scenario| {
        ensure!(!lab.stuck, "not tried: the guest is stuck");
        (scenario.run)(lab)
    });
    // Each of them has cost the front end a message.
    println!("# disabled {} times", lab.stopped);
    Ok(code)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique_and_fit_the_list() {
        crate::scenario::check_names(super::ALL);
    }
}
