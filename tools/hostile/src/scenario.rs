// SPDX-License-Identifier: GPL-2.0
//! Scenarios: how they are named, chosen, listed and run. All the ends, of disks and of interfaces,
//! have tables of them.

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::ktap::{Ktap, Outcome};
use crate::{ensure, Result};

/// One way to misbehave, and what is expected of the other end. `L` is what the scenarios of an end
/// share.
pub(crate) struct Scenario<L: 'static> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The advisories whose hole it looks for, as the name of a regression test.
    pub(crate) advisory: Option<&'static str>,
    pub(crate) run: fn(&mut L) -> Result<Outcome>,
    /// Whether the device can be connected again afterwards. `all` leaves out those where not.
    pub(crate) reusable: bool,
}

impl<L> Scenario<L> {
    /// A scenario after which the device is still there.
    pub(crate) const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(&mut L) -> Result<Outcome>,
    ) -> Self {
        Scenario {
            name,
            about,
            advisory: None,
            run,
            reusable: true,
        }
    }

    /// The same, as the regression test of advisories.
    pub(crate) const fn of(mut self, advisory: &'static str) -> Self {
        self.advisory = Some(advisory);
        self
    }

    /// Runs it, and closes the device by `end` unless the next one may go on with it; `spoilt`: not
    /// after this one.
    pub(crate) fn run_and_end(
        &self,
        lab: &mut L,
        spoilt: impl FnOnce(&mut L),
        end: impl FnOnce(&mut L) -> Result,
    ) -> Result<Outcome> {
        let result = (self.run)(lab);
        if result.is_err() {
            spoilt(lab);
        }
        if self.reusable {
            let ended = end(lab).map_err(|e| format!("teardown: {e}"));
            if let (Ok(_), Err(e)) = (&result, ended) {
                return Err(e.into());
            }
        }
        result
    }

    /// Its name, and that as a regression test.
    fn names(&self) -> String {
        let also = self.advisory.map(|a| format!(" ({a})"));
        format!("{}{}", self.name, also.unwrap_or_default())
    }
}

/// Options that all the ends have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How long to wait for the other end.
    pub(crate) timeout: Duration,
    pub(crate) seed: u64,
    /// Messages of the random scenarios.
    pub(crate) count: u64,
    /// How long the long ones last at most.
    pub(crate) limit: Duration,
    /// The first batch of the long ones.
    pub(crate) from: u64,
    /// The other end may be one that is less strict than ours.
    pub(crate) tolerant: bool,
}

impl Options {
    pub(crate) fn take(args: &mut Args) -> Result<Self> {
        Ok(Options {
            timeout: Duration::from_secs(args.value("--timeout")?.unwrap_or(10)),
            seed: args.value("--seed")?.unwrap_or(1),
            count: args.value("--count")?.unwrap_or(1000),
            limit: Duration::from_secs(args.value("--seconds")?.unwrap_or(86_400)),
            from: args.value("--from")?.unwrap_or(0),
            tolerant: args.flag("--tolerant"),
        })
    }
}

/// The tables of an end, one after the other.
pub(crate) type Tables<L> = &'static [&'static [Scenario<L>]];

/// Prints what there is.
pub(crate) fn list<L>(tables: Tables<L>) {
    for s in tables.iter().copied().flatten() {
        let also = s.advisory.map(|a| format!(" [{a}]")).unwrap_or_default();
        println!("{:<22} {}{also}", s.name, s.about);
    }
}

/// Those of these names, or of advisories so named, in the order of `names`.
pub(crate) fn choose<L>(tables: Tables<L>, names: &[String]) -> Result<Vec<&'static Scenario<L>>> {
    ensure!(!names.is_empty(), "which scenario? See --list.");
    let mut chosen = Vec::new();
    for name in names {
        let before = chosen.len();
        chosen.extend(tables.iter().copied().flatten().filter(|s| {
            s.name == name || s.advisory == Some(name) || (name == "all" && s.reusable)
        }));
        ensure!(chosen.len() > before, "no scenario {name:?}");
    }
    Ok(chosen)
}

/// Runs them, each by `one`, and gives the exit code.
pub(crate) fn run<L>(
    chosen: &[&'static Scenario<L>],
    lab: &mut L,
    mut one: impl FnMut(&mut L, &Scenario<L>) -> Result<Outcome>,
) -> u8 {
    let mut ktap = Ktap::start(chosen.len());
    for s in chosen {
        let began = Instant::now();
        let result = one(lab, s);
        ktap.note(&format!("{} ms", began.elapsed().as_millis()));
        ktap.result(&s.names(), result);
    }
    ktap.code()
}

/// That no name is there twice, and all fit the list.
#[cfg(test)]
pub(crate) fn check_names<L>(tables: Tables<L>) {
    let all = || tables.iter().copied().flatten();
    let mut names: Vec<_> = all().map(|s| s.name).collect();
    assert!(names.iter().all(|n| n.len() <= 22 && !n.contains(' ')));
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
