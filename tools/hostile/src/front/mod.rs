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

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::ktap::{Ktap, Outcome};
use crate::{ensure, Result};
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
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The advisories whose hole it looks for, as the name of a regression test.
    pub(crate) advisory: Option<&'static str>,
    pub(crate) run: fn(&mut Lab) -> Result<Outcome>,
    /// Whether the device can be connected again afterwards.
    pub(crate) reusable: bool,
}

impl Scenario {
    /// A scenario after which the device is still there.
    pub(crate) const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(&mut Lab) -> Result<Outcome>,
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

    /// Its name, and that as a regression test.
    fn names(&self) -> String {
        let also = self.advisory.map(|a| format!(" ({a})"));
        format!("{}{}", self.name, also.unwrap_or_default())
    }
}

/// All of them, in the order in which `all` runs them.
fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    requests::SCENARIOS
        .iter()
        .chain(ring::SCENARIOS)
        .chain(setup::SCENARIOS)
        .chain(shapes::SCENARIOS)
        .chain(barriers::SCENARIOS)
        .chain(fuzz::SCENARIOS)
        .chain(soak::SCENARIOS)
}

/// The command.
pub(crate) fn main(mut args: Args) -> Result<u8> {
    if args.flag("--list") {
        scenarios().for_each(|s| {
            let also = s.advisory.map(|a| format!(" [{a}]")).unwrap_or_default();
            println!("{:<22} {}{also}", s.name, s.about)
        });
        return Ok(0);
    }
    let device = args.value("--device")?;
    let seed = args.value("--seed")?.unwrap_or(1);
    let count = args.value("--count")?.unwrap_or(1000);
    let from = args.value("--from")?.unwrap_or(0);
    let timeout = Duration::from_secs(args.value("--timeout")?.unwrap_or(10));
    let tolerant = args.flag("--tolerant");
    let idle = args.flag("--rest");
    let limit = Duration::from_secs(args.value("--seconds")?.unwrap_or(86_400));
    let names = args.rest()?;
    ensure!(
        !names.is_empty(),
        "which scenario? See `hostile front --list`."
    );
    let mut chosen = Vec::new();
    for name in &names {
        let before = chosen.len();
        chosen.extend(scenarios().filter(|s| {
            s.name == name || s.advisory == Some(name) || (name == "all" && s.reusable)
        }));
        ensure!(chosen.len() > before, "no scenario {name:?}");
    }
    let device = match device {
        Some(d) => d,
        None => only_device()?,
    };
    let mut lab = Lab {
        dev: Device::open(device, timeout)?,
        seed,
        count,
        from,
        limit,
        idle,
        tolerant,
    };
    let mut ktap = Ktap::start(chosen.len());
    for s in &chosen {
        let began = Instant::now();
        let mut result = (s.run)(&mut lab);
        if result.is_err() {
            lab.dev.spoilt();
        }
        if s.reusable {
            let closed = lab.dev.end_scenario().map_err(|e| format!("teardown: {e}"));
            if let (Ok(_), Err(e)) = (&result, closed) {
                result = Err(e.into());
            }
        }
        ktap.note(&format!("{} ms", began.elapsed().as_millis()));
        ktap.result(&s.names(), result);
    }
    if chosen.iter().all(|s| s.reusable) {
        lab.dev.close()?;
    }
    Ok(ktap.code())
}

/// The number of the disk that no driver is bound to, where there is only one.
fn only_device() -> Result<u64> {
    let free = |name: &String| {
        !std::path::Path::new(&format!("/sys/bus/xen/devices/vbd-{name}/driver")).exists()
    };
    let all = xen::store::Store::open()?.list("device/vbd")?;
    let all: Vec<_> = all.into_iter().filter(free).collect();
    match all.as_slice() {
        [one] => Ok(one.parse()?),
        _ => Err(format!("which --device? Without a driver: {all:?}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::scenarios;

    #[test]
    fn names_are_unique_and_fit_the_list() {
        let mut names: Vec<_> = scenarios().map(|s| s.name).collect();
        assert!(names.iter().all(|n| n.len() <= 22 && !n.contains(' ')));
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
