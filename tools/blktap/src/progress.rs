// SPDX-License-Identifier: GPL-2.0
//! How far a long work is, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// It is drawn at most so often.
const OFTEN: Duration = Duration::from_millis(100);

/// A line at the end of the screen that is drawn anew, and goes when it is dropped.
pub struct Progress {
    what: &'static str,
    start: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Of `what`. Nothing is shown if `quiet`, or where the standard error output is no terminal.
    pub fn new(what: &'static str, quiet: bool) -> Self {
        Self {
            what,
            start: Instant::now(),
            drawn: None,
            shown: !quiet && io::stderr().is_terminal(),
        }
    }

    /// So many bytes are done, of so many.
    pub fn show(&mut self, done: u64, total: u64) {
        let early = self.drawn.is_some_and(|drawn| drawn.elapsed() < OFTEN);
        if self.shown && (!early || done == total) {
            self.drawn = Some(Instant::now());
            let line = line(self.what, done, total, self.start.elapsed());
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: u64, time: Duration) -> String {
    const WIDTH: u64 = 30;
    let part = |of: u64| (u128::from(of) * u128::from(done) / u128::from(total.max(1))) as u64;
    let full = part(WIDTH).min(WIDTH) as usize;
    let rate = (done as f64 / time.as_secs_f64().max(0.001)) as u64;
    let left = total.saturating_sub(done).checked_div(rate);
    let left = left.map_or(String::new(), |left| format!(", {left} s left"));
    format!(
        "{what} [{}{}] {:>3}%  {} of {} MiB, {} MiB/s{left}",
        "#".repeat(full),
        ".".repeat(WIDTH as usize - full),
        part(100),
        done >> 20,
        total >> 20,
        rate >> 20
    )
}

#[test]
fn a_line_says_how_far_it_is() {
    let second = Duration::from_secs(1);
    let line = |done, total| line("commit", done, total, second);
    assert_eq!(
        line(64 << 20, 256 << 20),
        "commit [#######.......................]  25%  64 of 256 MiB, 64 MiB/s, 3 s left"
    );
    assert!(line(0, 0).contains("  0%"));
    assert!(line(5, 5).contains("] 100%"));
    line(u64::MAX, 1);
}
