// SPDX-License-Identifier: GPL-2.0
//! Does in a guest of the lab what dom0 says on its console (`bin/guestctl.rs` has the other end).
//!
//! A request is a line `lab ID SECONDS BASE64`: a shell's commands, and how long they may take. What follows
//! `\x1elab-begin ID\n` is their output, until `\x1elab-end ID STATUS\n`. The shell of the guest's init
//! could do that, too, but it starts six programs for each, and a program's start is what takes time
//! under emulation.

use base64::{engine::general_purpose::STANDARD, Engine};
use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A request: its number, its limit, its commands. `None` is what the console's other users leave.
fn parse(line: &str) -> Option<(&str, Duration, String)> {
    let mut words = line.strip_prefix("lab ")?.split_whitespace();
    let (id, seconds, command) = (words.next()?, words.next()?, words.next().unwrap_or(""));
    let command = String::from_utf8(STANDARD.decode(command).ok()?).ok()?;
    Some((id, Duration::from_secs(seconds.parse().ok()?), command))
}

/// Runs `command`, for at most `limit`; gives its status, as a shell does.
fn run(command: &str, limit: Duration) -> io::Result<i32> {
    let until = Instant::now() + limit;
    let console = io::stdout().as_fd().try_clone_to_owned()?;
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stderr(console)
        .process_group(0)
        .spawn()?;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
        if Instant::now() >= until {
            // One that waits for a disk does not end now.
            child.kill()?;
            return Ok(128 + 9);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(16));
    }
}

fn main() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            sleep(Duration::from_millis(100)); // the console is being made anew
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let Some((id, limit, command)) = parse(&text) else {
            continue;
        };
        let mut output = io::stdout();
        writeln!(output, "\x1elab-begin {id}")?;
        output.flush()?;
        let status = run(&command, limit).unwrap_or_else(|e| {
            println!("agent: {e}");
            126
        });
        writeln!(output, "\x1elab-end {id} {status}")?;
        output.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let (id, limit, command) = parse("lab 7.1 60 ZWNobyBo\n").unwrap();
        assert_eq!(
            (id, limit.as_secs(), command.as_str()),
            ("7.1", 60, "echo h")
        );
        for line in [
            "",
            "\n",
            "lab",
            "lab 7.1",
            "lab 7.1 x ZWNobyBo",
            "lab 7.1 60 !",
            "[  1.0] lab 1 1 ZQ==",
        ] {
            assert!(parse(line).is_none(), "{line}");
        }
    }

    #[test]
    fn statuses() {
        let long = Duration::from_secs(60);
        assert_eq!(run("true", long).unwrap(), 0);
        assert_eq!(run("exit 3", long).unwrap(), 3);
        assert_eq!(run("kill -9 $$", long).unwrap(), 137);
        assert_eq!(run("sleep 60", Duration::ZERO).unwrap(), 137);
    }
}
