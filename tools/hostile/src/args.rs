// SPDX-License-Identifier: GPL-2.0
//! The command line: positional words, `--name value` and `--flag`.

use std::collections::VecDeque;
use std::str::FromStr;

use crate::Result;

/// What `hostile --help` prints.
pub(crate) const HELP: &str = "\
Front ends and back ends of Xen virtual disks and network interfaces that misbehave
on purpose.

usage: hostile front SCENARIO... [options]     in a guest: be a disk's front end
       hostile back SCENARIO... [options]      in dom0: be a disk's back end
       hostile netfront SCENARIO... [options]  the same of an interface
       hostile netback SCENARIO... [options]
       hostile front --list                    the scenarios, each in a line
       hostile grants DOMID [REMOTE|all]       count a guest's grants to REMOTE (0)

options of all:
  --device N      the device's number, such as 51728 for xvdb (front, netfront: the
                  only one without a driver; back: 51760, xvdd; netback: 16)
  --guest DOMID   back, netback: the guest that gets the device
  --seed N        of the random scenarios (1)
  --count N       their number of messages (1000)
  --seconds S     end the long ones after this time, with whatever count
  --from N        their first batch (0), to repeat what has failed
  --timeout S     seconds to wait for the other end (10)
  --tolerant      do not insist on what only our own drivers do

options of netfront and netback:
  --fatal N       netfront: one in so many of the packets of `fuzz` ends the
                  interface (100)
  --program COMMAND  netback: run by the shell, @ being one of: attach the program
                  `verdicts` (tools/xdp) to the interface and print its number,
                  replace it ten times, cycle (detach and attach it ten times),
                  detach it, have it down or up, print the free memory in KiB

options of front and back:
  --poke COMMAND  back: run by the shell when the disk serves; is to read the disk
                  at 1 MiB, where the scenarios misbehave
  --rest          front: do rest in `idle`
  --load COMMAND  back: run by the shell all the time of `soak`; is to read and
                  write the disk, @, errors or not
  --reread COMMAND  back: is to read the disk at 1 MiB twice through the page
                  cache, a second apart, and fail if that differs
  --irqs COMMAND  back: is to print how many interrupts of disks the guest has had

SCENARIO may be `all`: every one that leaves the device usable. Output is KTAP;
the exit code is 0 if all passed, 1 if one failed, 2 if it could not be tried.

A front end takes a device of which no driver has hold: with blkfront loaded,
write 0 to /sys/bus/xen/drivers_autoprobe first. It needs xen-gntalloc and
xen-evtchn. A back end makes the device's store entries itself, in the guest's
directory and in /local/domain/0/backend/hostile; it needs xen-gntdev. netfront
wants a bridge at the other end with the address 10.9.0.1, and has 10.9.0.200;
netback wants the guest to give 10.10.0.2 to the interface 00:16:3e:0a:00:01.
";

/// The words not taken yet.
#[derive(Debug)]
pub(crate) struct Args(VecDeque<String>);

impl Args {
    /// The process's arguments.
    pub(crate) fn from_env() -> Self {
        Args(std::env::args().skip(1).collect())
    }

    /// The next word, whatever it is.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.0.pop_front()
    }

    /// Takes `name` out, wherever it is. True if it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|a| a == name);
        at.map(|i| self.0.remove(i)).is_some()
    }

    /// Takes `name` and its value out.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(i) = self.0.iter().position(|a| a == name) else {
            return Ok(None);
        };
        self.0.remove(i);
        let text = self.0.remove(i).ok_or(format!("{name} needs a value"))?;
        Ok(Some(
            text.parse()
                .map_err(|_| format!("{name}: bad value {text:?}"))?,
        ))
    }

    /// The words that are left. An unknown option is an error.
    pub(crate) fn rest(self) -> Result<Vec<String>> {
        match self.0.iter().find(|a| a.starts_with("--")) {
            Some(a) => Err(format!("unknown option {a}").into()),
            None => Ok(self.0.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Args {
        Args(words.iter().map(|w| w.to_string()).collect())
    }

    #[test]
    fn options_may_stand_anywhere() {
        let mut a = args(&["all", "--seed", "7", "--list", "good"]);
        assert_eq!(a.value::<u64>("--seed").unwrap(), Some(7));
        assert!(a.flag("--list") && !a.flag("--list"));
        assert_eq!(a.value::<u64>("--count").unwrap(), None);
        assert_eq!(a.rest().unwrap(), ["all", "good"]);
    }

    #[test]
    fn bad_options_are_told() {
        assert!(args(&["--seed"]).value::<u64>("--seed").is_err());
        assert!(args(&["--seed", "x"]).value::<u64>("--seed").is_err());
        assert!(args(&["--what"]).rest().is_err());
    }
}
