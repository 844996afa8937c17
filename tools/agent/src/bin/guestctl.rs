// SPDX-License-Identifier: GPL-2.0
//! Speaks with a guest's agent (`main.rs`, which has the protocol) over its console, from dom0.
//!
//! The guest is a directory `$LAB_STATE/guests/NAME`: `tty` names its console, `lock` keeps others off it.
//! Ends with the status of the command, and with 124 where there is none. Time limits are stretched by
//! `$LAB_STRETCH`.

use base64::{engine::general_purpose::STANDARD, Engine};
use clap::{Parser, Subcommand};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::fs::{flock, FlockOperation, OFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, exit, Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Speak with a guest of the lab
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Wait for the guest's agent
    Ready { name: String, seconds: u64 },
    /// Run a shell's commands in the guest: their output, their status
    Run {
        name: String,
        seconds: u64,
        command: String,
    },
    /// Copy a file into the guest
    Put {
        name: String,
        seconds: u64,
        file: PathBuf,
        path: String,
    },
}

type Result<T> = std::result::Result<T, String>;

/// What the console is read in.
const SECOND: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// Bytes of a file in one command.
const CHUNK: usize = 2400;

/// A guest's console, while no other has it.
struct Console {
    directory: PathBuf,
    tty: PathBuf,
    file: File,
    _lock: File,
    /// What has been read and not been used.
    buffer: Vec<u8>,
    limit: u64,
    until: Instant,
    serial: u32,
}

/// Where `what` begins in `text`.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}

impl Console {
    fn open(name: &str, seconds: u64) -> Result<Self> {
        let var = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
        let directory = Path::new(&var("LAB_STATE", "/run/lab"))
            .join("guests")
            .join(name);
        let limit = seconds * var("LAB_STRETCH", "1").parse::<u64>().unwrap_or(1);
        let until = Instant::now() + Duration::from_secs(limit);
        let tty = fs::read_to_string(directory.join("tty"))
            .map_err(|_| "there is no such guest".to_string())?;
        let tty = PathBuf::from(tty.trim());
        let told = |e: io::Error| format!("{}: {e}", tty.display());
        let lock = File::create(directory.join("lock")).map_err(told)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NOCTTY.bits() as i32)
            .open(&tty)
            .map_err(told)?;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= until {
                return Err("its console is in use".into());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(Self {
            directory,
            tty,
            file,
            _lock: lock,
            buffer: Vec::new(),
            limit,
            until,
            serial: 0,
        })
    }

    /// Reads more into the buffer; `what` has taken too long when that fails.
    fn more(&mut self, what: &str) -> Result<()> {
        for idle in 1.. {
            if Instant::now() >= self.until {
                return Err(format!("no answer in {} s{what}", self.limit));
            }
            let ready = poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&SECOND));
            if ready.map_err(|e| e.to_string())? > 0 {
                break;
            }
            if !self.tty.exists() {
                return Err("it is gone".into());
            }
            if idle % 3 == 0 && self.shut_down() {
                return Err("it has shut down by itself".into());
            }
        }
        let mut part = [0; 65536];
        match self.file.read(&mut part) {
            Ok(n) if n > 0 => {
                self.buffer.extend_from_slice(&part[..n]);
                Ok(())
            }
            _ => Err("its console closed".into()),
        }
    }

    /// Whether Xen has stopped it, as it does after a triple fault.
    fn shut_down(&self) -> bool {
        let Ok(id) = fs::read_to_string(self.directory.join("domid")) else {
            return false;
        };
        let Ok(list) = Command::new("xl").args(["list", id.trim()]).output() else {
            return false;
        };
        let list = String::from_utf8_lossy(&list.stdout);
        // running, blocked, paused, shut down, crashed, dying
        list.split_whitespace()
            .any(|word| word.len() == 6 && word.as_bytes()[3] == b's' && word.contains('-'))
    }

    /// Reads until `what` has come; gives what was before it.
    fn until(&mut self, what: &str, why: &str) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, what.as_bytes()) {
                let rest = self.buffer.split_off(at + what.len());
                let mut before = std::mem::replace(&mut self.buffer, rest);
                before.truncate(at);
                return Ok(before);
            }
            self.more(why)?;
        }
    }

    /// Runs `command` in the guest, and prints its output as it comes; gives its status.
    fn run(&mut self, command: &str) -> Result<u8> {
        self.serial += 1;
        let id = format!("{}.{}", process::id(), self.serial);
        let why = format!(" to: {}", command.chars().take(100).collect::<String>());
        let line = format!("\nlab {id} {} {}\n", self.limit, STANDARD.encode(command));
        // The console's ring has room for 2 KiB.
        for part in line.as_bytes().chunks(512) {
            self.file
                .write_all(part)
                .map_err(|e| format!("cannot write to its console: {e}"))?;
        }
        self.until(&format!("\x1elab-begin {id}\n"), &why)?;
        let end = format!("\x1elab-end {id} ");
        let mut output = io::stdout().lock();
        loop {
            let at = find(&self.buffer, end.as_bytes());
            let whole = at
                .or_else(|| self.buffer.iter().rposition(|b| *b == 0x1e))
                .unwrap_or(self.buffer.len());
            let done = output
                .write_all(&self.buffer[..whole])
                .and_then(|()| output.flush());
            done.map_err(|e| e.to_string())?;
            self.buffer.drain(..whole);
            if at.is_some() {
                self.buffer.drain(..end.len());
                let status = self.until("\n", &why)?;
                return String::from_utf8_lossy(&status)
                    .parse()
                    .map_err(|_| "what status is this?".into());
            }
            self.more(&why)?;
        }
    }

    /// Copies `data` to the file `path` in the guest.
    fn put(&mut self, data: &[u8], path: &str) -> Result<u8> {
        let (mut parts, empty): (_, &[u8]) = (data.chunks(CHUNK), &[]);
        let (mut part, mut to) = (parts.next().unwrap_or(empty), ">");
        loop {
            match self.run(&format!(
                "echo {} | base64 -d {to}'{path}'",
                STANDARD.encode(part)
            ))? {
                0 => (),
                status => return Ok(status),
            }
            to = ">>";
            part = match parts.next() {
                Some(next) => next,
                None => return Ok(0),
            }
        }
    }
}

fn work(what: What) -> (String, Result<u8>) {
    match what {
        What::Ready { name, seconds } => {
            let done =
                Console::open(&name, seconds).and_then(|mut c| c.until("\x1elab-ready\n", ""));
            (name, done.map(|_| 0))
        }
        What::Run {
            name,
            seconds,
            command,
        } => {
            let done = Console::open(&name, seconds).and_then(|mut c| c.run(&command));
            (name, done)
        }
        What::Put {
            name,
            seconds,
            file,
            path,
        } => {
            let data = fs::read(&file).unwrap_or_else(|e| {
                eprintln!("guestctl: {}: {e}", file.display());
                exit(2)
            });
            let done = Console::open(&name, seconds).and_then(|mut c| c.put(&data, &path));
            (name, done)
        }
    }
}

fn main() -> ExitCode {
    match work(Args::parse().what) {
        (_, Ok(status)) => status.into(),
        (name, Err(why)) => {
            eprintln!("guestctl: {name}: {why}");
            124.into()
        }
    }
}
