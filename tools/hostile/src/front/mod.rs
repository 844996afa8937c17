// SPDX-License-Identifier: GPL-2.0
//! `hostile front`: a guest that misbehaves towards its back end.
//!
//! - `device.rs`: the disk's front end, step by step
//! - `requests.rs`: requests that are wrong in themselves; one error answer each
//! - `ring.rs`: indices and notifications that are wrong; the ring stops
//! - `setup.rs`: store entries and states that are wrong; the connection is refused
//! - `fuzz.rs`: random ones
//!
//! After a scenario the device is closed and must come to rest in Closed; the next one connects it
//! anew. Only where a single request was refused the connection is kept, and shown to serve.

mod device;
mod fuzz;
mod requests;
mod ring;
mod setup;

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
    /// The back end may be one that is less strict than ours.
    pub(crate) tolerant: bool,
}

/// One way to misbehave, and what is expected of the back end.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
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
            run,
            reusable: true,
        }
    }
}

/// All of them, in the order in which `all` runs them.
fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    requests::SCENARIOS
        .iter()
        .chain(ring::SCENARIOS)
        .chain(setup::SCENARIOS)
        .chain(fuzz::SCENARIOS)
}

/// The command.
pub(crate) fn main(mut args: Args) -> Result<u8> {
    if args.flag("--list") {
        scenarios().for_each(|s| println!("{:<22} {}", s.name, s.about));
        return Ok(0);
    }
    let device = args.value("--device")?;
    let seed = args.value("--seed")?.unwrap_or(1);
    let count = args.value("--count")?.unwrap_or(1000);
    let timeout = Duration::from_secs(args.value("--timeout")?.unwrap_or(10));
    let tolerant = args.flag("--tolerant");
    let names = args.rest()?;
    ensure!(
        !names.is_empty(),
        "which scenario? See `hostile front --list`."
    );
    let mut chosen = Vec::new();
    for name in &names {
        let before = chosen.len();
        chosen.extend(scenarios().filter(|s| s.name == name || (name == "all" && s.reusable)));
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
        ktap.result(s.name, result);
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
