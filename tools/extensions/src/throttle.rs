// SPDX-License-Identifier: GPL-2.0
//! `throttle`: requests and bytes a second.
//!
//! - `throttle/bucket.rs`: how long a request waits

mod bucket;

pub(crate) use bucket::Bucket;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tap::dev::{op, Hook, Passing, Verdict};
use tap::{rt, AnyDisk, Buf, Disk, Extension, Opt, Options};

/// A disk that is no faster than it may.
pub struct Throttle {
    below: AnyDisk,
    limits: Limits,
}

/// All limits, and what of them is used up.
struct Limits {
    start: Instant,
    all: RefCell<Vec<Limit>>,
}

struct Limit {
    bucket: Bucket,
    bytes: bool,
    reads: bool,
    writes: bool,
}

impl Limits {
    /// How long a request waits, which is counted now.
    fn charge(&self, write: bool, bytes: u64) -> Duration {
        let now = self.start.elapsed();
        let mut limits = self.all.borrow_mut();
        let of = limits.iter_mut().filter(|limit| match write {
            true => limit.writes,
            false => limit.reads,
        });
        let waits = of.map(|limit| limit.bucket.take(now, if limit.bytes { bytes } else { 1 }));
        waits.max().unwrap_or_default()
    }

    async fn wait(&self, write: bool, bytes: u64) {
        let wait = self.charge(write, bytes);
        if !wait.is_zero() {
            rt::sleep(wait).await;
        }
    }
}

impl Disk for Throttle {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.below)
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        self.limits.wait(false, buf.len() as u64).await;
        self.below.read(at, buf).await
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        self.limits.wait(true, buf.len() as u64).await;
        self.below.write(at, buf, fua).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        self.limits.wait(true, len).await;
        self.below.write_zeroes(at, len, fua).await
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.limits.wait(true, 0).await;
        self.below.discard(at, len).await
    }
}

impl Hook for Limits {
    fn request(&self, request: Passing) -> Verdict {
        let bytes = request.nr_sectors().saturating_mul(512);
        let wait = match request.op() {
            op::READ => self.charge(false, bytes),
            op::WRITE => self.charge(true, bytes),
            op::DISCARD => self.charge(true, 0),
            _ => Duration::ZERO,
        };
        if wait.is_zero() {
            return Verdict::Pass(request);
        }
        rt::spawn(async move {
            rt::sleep(wait).await;
            request.resume();
        })
        .detach();
        Verdict::Consume
    }

    fn wants_replies(&self) -> bool {
        false
    }
}

/// The options that are limits: name, whether of bytes, of reads, of writes.
const LIMITS: [(&str, bool, bool, bool); 6] = [
    ("iops", false, true, true),
    ("bps", true, true, true),
    ("read-iops", false, true, false),
    ("write-iops", false, false, true),
    ("read-bps", true, true, false),
    ("write-bps", true, false, true),
];

impl Extension for Throttle {
    const NAME: &str = "throttle";
    const HELP: &str = "limits requests and bytes a second

Requests wait until they fit; they do not fail. A flush never waits, a discard counts as a request of
no bytes. Of several limits each is kept.";
    const OPTIONS: &[Opt] = &[
        Opt::may("iops", "requests a second"),
        Opt::may("bps", "bytes a second, such as 10M"),
        Opt::may("read-iops", "reads a second"),
        Opt::may("write-iops", "writes a second"),
        Opt::may("read-bps", "bytes read a second"),
        Opt::may("write-bps", "bytes written a second"),
        Opt::or(
            "burst",
            "100ms",
            "what was left unused for so long may be used at once",
        ),
    ];
    const FILTER: bool = true;

    fn is_hook(_: &Options) -> bool {
        true
    }

    async fn hook(options: &Options) -> io::Result<Rc<dyn Hook>> {
        Ok(Rc::new(Limits::new(options)?))
    }

    async fn open(options: &Options) -> io::Result<Self> {
        Ok(Self {
            below: options.below()?,
            limits: Limits::new(options)?,
        })
    }
}

impl Limits {
    fn new(options: &Options) -> io::Result<Self> {
        let burst = options.time("burst")?;
        let mut limits = Vec::new();
        for (name, bytes, reads, writes) in LIMITS {
            if options.get(name).is_none() {
                continue;
            }
            let rate = match bytes {
                true => options.bytes(name)?,
                false => options.number(name)?,
            };
            if rate == 0 {
                return Err(options.wrong(name, format!("{name} is at least 1")));
            }
            limits.push(Limit {
                bucket: Bucket::new(rate, burst),
                bytes,
                reads,
                writes,
            });
        }
        if limits.is_empty() {
            return Err(options.wrong(
                "iops",
                "throttle needs a limit, such as iops=100 or bps=10M",
            ));
        }
        Ok(Self {
            start: Instant::now(),
            all: RefCell::new(limits),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{open_over, rehearsal, Fake, Op, World};

    #[test]
    fn requests_wait() {
        rt::run(async {
            let world = World::new(1);
            let fake = Fake::stamped(&world, 64);
            let text = "throttle:iops=100,write-bps=10k,burst=0s";
            let disk = open_over(&fake, text).await.unwrap();
            let took = |start: Instant| start.elapsed().as_millis();
            let start = Instant::now();
            for result in rt::join_all((0..10).map(|_| read(&disk))).await {
                result.unwrap();
            }
            assert!((100..5000).contains(&took(start)), "{}", took(start));
            let start = Instant::now();
            disk.write(0, &Buf::zeroed(2048), false).await.unwrap();
            assert!((200..5000).contains(&took(start)), "{}", took(start));
            // One that is given up is not done.
            let large = Buf::zeroed(20480);
            let late = disk.write(0, &large, false);
            assert!(rt::timeout(Duration::from_millis(5), late).await.is_none());
            assert_eq!((fake.count(Op::Read), fake.count(Op::Write)), (10, 1));
            disk.flush().await.unwrap();
        })
        .unwrap();
    }

    #[test]
    fn requests_wait_at_a_hook() {
        rt::run(async {
            let guest = rehearsal("throttle:iops=100,burst=0s").await.unwrap();
            let start = Instant::now();
            for sector in 0..5 {
                guest.ask(op::READ, 0, sector, 1);
            }
            // Which does not wait for them.
            guest.ask(op::FLUSH, 0, 0, 0);
            assert_eq!(guest.asked().len(), 1);
            while guest.asked().len() < 6 {
                guest.changed().await;
            }
            let took = start.elapsed().as_millis();
            assert!((50..5000).contains(&took), "{took}");
            let sectors: Vec<u64> = guest.asked().iter().map(|it| it.sector).collect();
            assert_eq!(sectors[1..], [0, 1, 2, 3, 4]);
            assert!(rehearsal("throttle").await.is_err());
        })
        .unwrap();
    }

    async fn read(disk: &AnyDisk) -> io::Result<()> {
        disk.read(0, &mut Buf::new(512)).await
    }

    #[test]
    fn a_limit_is_needed() {
        rt::run(async {
            let fake = Fake::stamped(&World::new(1), 64);
            let error = |text: &'static str| {
                let fake = fake.clone();
                async move { open_over(&fake, text).await.err().unwrap().to_string() }
            };
            assert!(error("throttle").await.contains("throttle needs a limit"));
            assert!(error("throttle:iops=0")
                .await
                .contains("iops is at least 1"));
            assert!(error("throttle:bps=x").await.contains("bps is a size"));
        })
        .unwrap();
    }
}
