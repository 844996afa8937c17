// SPDX-License-Identifier: GPL-2.0
//! Calls of xl.

use crate::Result;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use xen::{privcmd, DomId};

/// How a domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It lives.
    Running,
    /// Xen keeps it, but it does not run any more.
    Dead(&'static str),
    /// Xen has nothing of it.
    Gone,
}

/// The program, and how long it may take.
#[derive(Clone, Debug)]
pub(crate) struct Xl {
    pub program: PathBuf,
    pub limit: Duration,
}

impl Xl {
    /// Runs a command. An error says what xl said.
    fn run(&self, args: &[&str]) -> Result {
        self.call(args, Stdio::null()).map(drop)
    }

    /// Runs a command; its output, if that is a pipe.
    fn call(&self, args: &[&str], stdout: Stdio) -> Result<String> {
        let what = args.first().copied().unwrap_or_default();
        let mut child = Command::new(&self.program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", self.program.display()))?;
        let out = child.stdout.take().map(collect);
        let err = child.stderr.take().map(collect);
        let until = Instant::now() + self.limit;
        let mut nap = Duration::from_millis(2);
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > until => {
                    child.kill()?;
                    child.wait()?;
                    return Err(format!("xl {what} took longer than {:?}", self.limit).into());
                }
                None => thread::sleep(nap),
            }
            nap = (nap * 2).min(Duration::from_millis(20));
        };
        if status.success() {
            return Ok(out
                .map(|out| out.join().unwrap_or_default())
                .unwrap_or_default());
        }
        let said = err
            .map(|err| err.join().unwrap_or_default())
            .unwrap_or_default();
        let said = said.trim().replace('\n', "; ");
        Err(format!("xl {what}: {status}: {said}").into())
    }

    /// How the domain is. An error is one of xl: nothing is known then.
    pub(crate) fn life(&self, domid: DomId) -> Result<Life> {
        // To ask Xen itself costs no process.
        if matches!(privcmd::exists(domid), Ok(false)) {
            return Ok(Life::Gone);
        }
        match self.call(&["list", &domid.to_string()], Stdio::piped()) {
            Ok(text) => Ok(life(&text, domid)),
            Err(e) if e.to_string().contains("does not exist") => Ok(Life::Gone),
            Err(e) => Err(e),
        }
    }

    /// Starts a domain.
    pub(crate) fn create(&self, config: &str) -> Result {
        self.run(&["create", "-q", config])
    }

    /// Starts a domain under another name, without its disks.
    pub(crate) fn create_spare(&self, config: &str, name: &str) -> Result {
        self.run(&[
            "create",
            "-q",
            config,
            &format!("name=\"{name}\""),
            "disk=[]",
        ])
    }

    /// Gives a domain another name.
    pub(crate) fn rename(&self, domid: DomId, name: &str) -> Result {
        self.run(&["rename", &domid.to_string(), name])
    }

    /// Ends what is left of a domain.
    pub(crate) fn destroy(&self, domid: DomId) -> Result {
        self.run(&["destroy", &domid.to_string()])
    }

    /// Attaches a disk to a guest.
    pub(crate) fn attach(&self, guest: DomId, spec: &str) -> Result {
        self.run(&["block-attach", &guest.to_string(), spec])
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        // What came before an error is all there is.
        let _ = from.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// What `xl list` says of a domain: name, number, memory, processors, state, time.
fn life(text: &str, domid: DomId) -> Life {
    // A name may have blanks in it.
    let columns = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.len() >= 6 && words[words.len() - 5] == domid.to_string());
    match columns.map(|words| words[words.len() - 2].to_string()) {
        None => Life::Gone,
        Some(state) if state.contains('d') => Life::Dead("dying"),
        Some(state) if state.contains('c') => Life::Dead("crashed"),
        Some(state) if state.contains('s') => Life::Dead("shut down"),
        Some(_) => Life::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states() {
        let text = |state: &str| {
            format!(
                "Name                 ID   Mem VCPUs\tState\tTime(s)\n\
                 storage one           4   256     1     {state}       3.1\n"
            )
        };
        for (state, wanted) in [
            ("r-----", Life::Running),
            ("-b----", Life::Running),
            ("------", Life::Running),
            ("--p---", Life::Running),
            ("---s--", Life::Dead("shut down")),
            ("----c-", Life::Dead("crashed")),
            ("--ps-d", Life::Dead("dying")),
        ] {
            assert_eq!(life(&text(state), 4), wanted, "{state}");
        }
        assert_eq!(life(&text("r-----"), 5), Life::Gone);
        assert_eq!(life("", 4), Life::Gone);
    }

    #[test]
    fn a_command_that_fails_or_hangs() {
        let xl = |program: &str| Xl {
            program: program.into(),
            limit: Duration::from_millis(300),
        };
        assert!(xl("true").create("x").is_ok());
        assert!(xl("false").create("x").is_err());
        assert!(xl("/no/such/program").create("x").is_err());
        // `yes` never ends.
        assert!(xl("yes")
            .destroy(1)
            .unwrap_err()
            .to_string()
            .contains("longer"));
    }
}
