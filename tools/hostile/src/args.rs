// SPDX-License-Identifier: GPL-2.0
//! The command line: positional words, `--name value` and `--flag`.

use std::collections::VecDeque;
use std::str::FromStr;

use crate::Result;

/// What `hostile --help` prints.
pub(crate) const HELP: &str = "\
Front ends and back ends of a Xen virtual disk that misbehave on purpose.

usage: hostile front SCENARIO... [options]   in a guest: be the front end
       hostile back SCENARIO... [options]    in dom0: be the back end
       hostile front --list                  the scenarios, each in a line
       hostile back --list
       hostile grants DOMID [REMOTE|all]     count a guest's grants to REMOTE (0)

options of front and back:
  --device N      the disk's number, such as 51728 for xvdb (front: the only vbd
                  without a driver; back: 51760, xvdd)
  --guest DOMID   back: the guest that gets the disk
  --poke COMMAND  back: run by the shell when the disk serves; is to read the disk
                  at 1 MiB, where the scenarios misbehave
  --seed N        of the random scenarios (1)
  --count N       their number of messages (1000)
  --seconds S     end `soak` after this time, with whatever count
  --from N        the first batch of `soak` (0), to repeat what has failed
  --rest          front: do rest in `idle`
  --load COMMAND  back: run by the shell all the time of `soak`; is to read and
                  write the disk, @, errors or not
  --reread COMMAND  back: is to read the disk at 1 MiB twice through the page
                  cache, a second apart, and fail if that differs
  --irqs COMMAND  back: is to print how many interrupts of disks the guest has had
  --timeout S     seconds to wait for the other end (10)
  --tolerant      do not insist on what only our own drivers do

SCENARIO may be `all`: every one that leaves the device usable. Output is KTAP;
the exit code is 0 if all passed, 1 if one failed, 2 if it could not be tried.

The front end takes a device of which no driver has hold: with blkfront loaded,
write 0 to /sys/bus/xen/drivers_autoprobe first. It needs xen-gntalloc and
xen-evtchn. The back end makes the disk's store entries itself, in the guest's
device/vbd and in /local/domain/0/backend/hostile; it needs xen-gntdev.
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
