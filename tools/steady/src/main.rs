// SPDX-License-Identifier: GPL-2.0
//! `steady`: keeps a disk busy, checks every byte of it, and says when the disk made it wait.
//!
//! Some threads, each with blocks of its own, write a block or read one back, at random. A block
//! says which one it is and how often it has been written, in each of its sectors, so that a write
//! that was lost, went elsewhere, was torn, or came a second time after a later one is seen at the
//! next read. A pause is a time in which no request of any thread completed.

mod block;

use block::Block;
use clap::Parser;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Keeps a disk busy, checks every byte of it, and says when the disk made it wait
///
/// Prints a line `pause at=SECONDS ms=LENGTH` for each pause, with the time of its end since the
/// start, and last a line with the counts. Exits with 1 if a request failed or data was wrong.
#[derive(Clone, Debug, Parser)]
#[command(version)]
struct Args {
    /// The disk, whose contents are lost
    disk: PathBuf,

    /// Where the area that is used begins
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    offset: u64,

    /// The size of that area
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=4096))]
    size: u64,

    /// How many requests there are at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,

    /// Stop after so long
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,

    /// Stop when this file is there, too
    #[arg(long, value_name = "FILE")]
    until: Option<PathBuf>,

    /// The shortest time without an answer that is a pause
    #[arg(long, value_name = "MS", default_value_t = 300)]
    pause: u64,
}

/// What all threads share.
struct Shared {
    args: Args,
    file: File,
    start: Instant,
    /// When a request last completed, in microseconds from the start.
    last: AtomicU64,
    longest: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&args.disk);
    let file = match file {
        Ok(file) => file,
        Err(e) => {
            eprintln!("steady: {}: {e}", args.disk.display());
            return ExitCode::from(2);
        }
    };
    let shared = Shared {
        args,
        file,
        start: Instant::now(),
        last: AtomicU64::new(0),
        longest: AtomicU64::new(0),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        for number in 0..shared.args.threads {
            let shared = &shared;
            scope.spawn(move || shared.work(number));
        }
    });
    let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
    println!(
        "done requests={} failed={} wrong={} longest_ms={}",
        get(&shared.done),
        get(&shared.failed),
        get(&shared.wrong),
        get(&shared.longest) / 1000
    );
    ExitCode::from(u8::from(get(&shared.failed) + get(&shared.wrong) > 0))
}

impl Shared {
    /// Thread `number`: writes its blocks once, then goes on at random, then reads them all.
    fn work(&self, number: u64) {
        let blocks: Vec<u64> = (0..self.args.size * 1024 * 1024 / block::SIZE as u64)
            .filter(|block| block % self.args.threads == number)
            .collect();
        // How often each has been written; `None`: not known since a write has failed.
        let mut written: Vec<Option<u64>> = vec![None; blocks.len()];
        let mut buffer = Block::new();
        for (block, count) in blocks.iter().zip(&mut written) {
            self.write(&mut buffer, *block, count, 1);
            if self.is_over() {
                return;
            }
        }
        let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        while !self.is_over() {
            // xorshift64
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let i = (random >> 8) as usize % blocks.len();
            if random & 1 == 0 {
                let next = written[i].unwrap_or(0) + 1;
                self.write(&mut buffer, blocks[i], &mut written[i], next);
            } else {
                self.check(&mut buffer, blocks[i], written[i]);
            }
        }
        for (block, count) in blocks.iter().zip(&written) {
            self.check(&mut buffer, *block, *count);
        }
    }

    fn is_over(&self) -> bool {
        self.start.elapsed() > Duration::from_secs(self.args.seconds)
            || self.args.until.as_ref().is_some_and(|path| path.exists())
    }

    fn place(&self, block: u64) -> u64 {
        self.args.offset * 1024 * 1024 + block * block::SIZE as u64
    }

    fn write(&self, buffer: &mut Block, block: u64, count: &mut Option<u64>, next: u64) {
        buffer.fill(block, next);
        let result = self.file.write_all_at(buffer.bytes(), self.place(block));
        *count = self.completed("write", block, result).then_some(next);
    }

    fn check(&self, buffer: &mut Block, block: u64, count: Option<u64>) {
        buffer.clear();
        let result = self
            .file
            .read_exact_at(buffer.bytes_mut(), self.place(block));
        let (true, Some(count)) = (self.completed("read", block, result), count) else {
            return;
        };
        if let Err(what) = buffer.check(block, count) {
            self.wrong.fetch_add(1, Ordering::Relaxed);
            self.say(format_args!("wrong block={block} count={count}: {what}"));
        }
    }

    /// Takes note of a completion; whether it is a success.
    fn completed(&self, what: &str, block: u64, result: io::Result<()>) -> bool {
        let now = self.start.elapsed().as_micros() as u64;
        let pause = now.saturating_sub(self.last.fetch_max(now, Ordering::Relaxed));
        self.longest.fetch_max(pause, Ordering::Relaxed);
        self.done.fetch_add(1, Ordering::Relaxed);
        if pause >= self.args.pause * 1000 {
            let at = now as f64 / 1e6;
            self.say(format_args!("pause at={at:.3} ms={}", pause / 1000));
        }
        if let Err(e) = &result {
            // Each costs time, so that a disk that has gone does not fill the log.
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.say(format_args!("failed {what} block={block}: {e}"));
            thread::sleep(Duration::from_millis(200));
        }
        result.is_ok()
    }

    fn say(&self, text: std::fmt::Arguments<'_>) {
        // Nobody to tell of an error.
        let _ = writeln!(io::stdout().lock(), "{text}");
    }
}
