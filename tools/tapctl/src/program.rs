// SPDX-License-Identifier: GPL-2.0
//! Programs in the background. What is known of one is in [`STATE`]: `DOMID-HANDLE.chain` its chain,
//! `.log` what it says, `.pid` its number, `.program` the file.

use crate::args;
use crate::change::policy_name;
use crate::disk::Disk;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tap::dev::Policy;

/// Where it is kept what runs.
pub(crate) const STATE: &str = "/run/blktap";

/// A program that is to be killed is asked to end first, and has so long.
const GRACE: Duration = Duration::from_secs(30);

/// One of a disk's files in [`STATE`].
fn file(disk: Disk, kind: &str) -> PathBuf {
    Path::new(STATE).join(format!("{}-{}.{kind}", disk.domid, disk.handle))
}

fn context(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The chain that a disk's program was started with, if it was started by tapctl.
pub(crate) fn chain(disk: Disk) -> Option<String> {
    fs::read_to_string(file(disk, "chain")).ok()
}

/// The file of the program that a disk was attached with.
pub(crate) fn program(disk: Disk) -> Option<PathBuf> {
    fs::read_to_string(file(disk, "program"))
        .ok()
        .map(PathBuf::from)
}

/// What is known of a disk's program is known no more, but for its log.
pub(crate) fn forget(disk: Disk) {
    for kind in ["chain", "pid", "program"] {
        let _ = fs::remove_file(file(disk, kind));
    }
}

/// The program that has the extensions.
pub(crate) fn default_program() -> PathBuf {
    let beside = std::env::current_exe().ok();
    let beside = beside.and_then(|own| Some(own.parent()?.join("blktap")));
    beside
        .filter(|path| path.exists())
        .unwrap_or_else(|| "blktap".into())
}

/// The one that was asked for, if any. It is started in another directory than this one, later by
/// another tapctl perhaps: a path is made absolute.
pub(crate) fn chosen(with: &args::With) -> io::Result<Option<PathBuf>> {
    let Some(program) = &with.program else {
        return Ok(None);
    };
    match program.components().count() {
        0 | 1 => Ok(Some(program.clone())),
        _ => fs::canonicalize(program)
            .map(Some)
            .map_err(|error| context(program, error)),
    }
}

/// What to start.
pub(crate) struct Start<'a> {
    pub disk: Disk,
    pub chain: &'a str,
    pub policy: Policy,
    pub program: PathBuf,
    /// Take over from the one that has the disk.
    pub wait: bool,
}

/// A program that was started.
pub(crate) struct Started {
    child: Child,
    disk: Disk,
    said: mpsc::Receiver<bool>,
    /// Where its messages begin in the log.
    from: u64,
}

impl Start<'_> {
    /// Starts it.
    pub(crate) fn start(&self) -> io::Result<Started> {
        fs::create_dir_all(STATE).map_err(|error| context(Path::new(STATE), error))?;
        let path = file(self.disk, "log");
        let log = OpenOptions::new().append(true).create(true).open(&path);
        let log = log.map_err(|error| context(&path, error))?;
        let from = log.metadata()?.len();
        let mut command = Command::new(&self.program);
        command
            .args([
                "run",
                "--daemon",
                "--policy",
                policy_name(self.policy as u32),
            ])
            .args(["--domain", &self.disk.domid.to_string()])
            .args(["--device", &self.disk.handle.to_string()])
            .args(self.wait.then_some("--wait"))
            .args(["--", self.chain])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .current_dir("/");
        let mut child = command.spawn().map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => "; say --program FILE",
                _ => "",
            };
            let what = format!("{}: {error}{hint}", self.program.display());
            io::Error::new(error.kind(), what)
        })?;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no pipe"))?;
        let (sender, said) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line == "ready\n");
        });
        Ok(Started {
            child,
            disk: self.disk,
            said,
            from,
        })
    }

    /// Whether the program can read the chain.
    pub(crate) fn check(&self) -> io::Result<()> {
        let mut command = Command::new(&self.program);
        command
            .args(["check", "--", self.chain])
            .stdin(Stdio::null());
        let output = command
            .output()
            .map_err(|error| context(&self.program, error))?;
        match output.status.success() {
            true => Ok(()),
            false => {
                let text = String::from_utf8_lossy(&output.stderr);
                let line = text.lines().last().unwrap_or("no word");
                Err(io::Error::other(
                    line.strip_prefix("error: ").unwrap_or(line),
                ))
            }
        }
    }

    /// Writes down what runs now.
    pub(crate) fn remember(&self, pid: u32) -> io::Result<()> {
        let program = self.program.to_string_lossy();
        let all = [("chain", self.chain), ("program", &program)];
        for (kind, text) in all
            .into_iter()
            .chain([("pid", format!("{pid}\n").as_str())])
        {
            let path = file(self.disk, kind);
            fs::write(&path, text).map_err(|error| context(&path, error))?;
        }
        Ok(())
    }
}

impl Started {
    /// Waits until the guest can use it; gives its number. On an error it is ended.
    pub(crate) fn ready(&mut self, timeout: Duration) -> io::Result<u32> {
        match self.said.recv_timeout(timeout) {
            Ok(true) => return Ok(self.child.id()),
            Ok(false) => {
                self.child.wait()?;
            }
            Err(_) => {
                // Asked politely it might serve on for a while.
                let _ = self.child.kill();
                let _ = self.child.wait();
                let what = format!("{}: not ready after {timeout:?}", self.disk);
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
        }
        Err(io::Error::other(self.reason()))
    }

    /// What it has said last.
    fn reason(&self) -> String {
        let path = file(self.disk, "log");
        let mut text = String::new();
        let read = File::open(&path).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.from))?;
            log.read_to_string(&mut text)
        });
        let last = text.lines().last().filter(|_| read.is_ok());
        match last {
            Some(line) => line.strip_prefix("error: ").unwrap_or(line).into(),
            None => format!(
                "the program has ended without a word; see {}",
                path.display()
            ),
        }
    }
}

/// Asks a program to end, and waits until `is_gone`; kills it if it takes long.
pub(crate) fn end(pid: u32, mut is_gone: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    for signal in ["TERM", "KILL"] {
        let status = Command::new("kill")
            .args(["-s", signal, &pid.to_string()])
            .stderr(Stdio::null())
            .status()?;
        if !status.success() && !is_gone()? {
            let what = format!("process {pid} cannot be ended; is this root?");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        let start = Instant::now();
        while start.elapsed() < GRACE {
            if is_gone()? {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Err(io::Error::other(format!("process {pid} does not end")))
}
