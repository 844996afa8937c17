// SPDX-License-Identifier: GPL-2.0
//! `fault`: delays, errors and wrong bytes, by rule.
//!
//! - `fault/rule.rs`: which requests are hit

pub(crate) mod rule;

use crate::random::Random;
use rule::{chance, Op, Rule, ALWAYS, NAMES};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tap::dev::{flag, op, status, Hook, Passing, Verdict};
use tap::log::Log;
use tap::{rt, AnyDisk, Buf, Disk, Extension, Opt, Options};

/// A disk with faults.
pub struct Fault {
    below: AnyDisk,
    faults: Rc<Faults>,
}

/// Which requests are hit, and how.
struct Faults {
    rule: RefCell<Rule>,
    delay: Option<Duration>,
    error: Option<i32>,
    corrupt: u64,
    log: Log,
}

impl Faults {
    /// Whether the request is hit.
    fn hits(&self, op: Op, at: u64, len: u64) -> bool {
        let hit = self.rule.borrow_mut().hits(op, at, len);
        if hit {
            let name = NAMES.iter().find(|(_, other)| *other == op);
            let name = name.map_or("", |(name, _)| name);
            let what = format!("{name} of {len} bytes at {at}");
            self.log.error("fault", &what);
        }
        hit
    }

    /// Whether the request is hit, and is to go on to the disk with wrong bytes.
    async fn strike(&self, op: Op, at: u64, len: u64) -> io::Result<bool> {
        if !self.hits(op, at, len) {
            return Ok(false);
        }
        if let Some(delay) = self.delay {
            rt::sleep(delay).await;
        }
        match self.error {
            // It has no such kind by its number.
            Some(EOPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(self.corrupt > 0),
        }
    }

    /// What becomes of a request that is hit, and is at a hook.
    async fn pass(self: Rc<Self>, request: Passing) {
        if let Some(delay) = self.delay {
            rt::sleep(delay).await;
        }
        match self.error {
            Some(EOPNOTSUPP) => request.answer(status::EOPNOTSUPP),
            Some(_) => request.answer(status::ERROR),
            None => request.resume(),
        }
    }

    /// Makes some bytes wrong; those that it draws twice may be right again.
    fn spoil(&self, buf: &mut Buf) {
        let random = &self.rule.borrow().random;
        let len = buf.len() as u64;
        for _ in 0..self.corrupt.min(len) {
            let (at, bits) = (random.below(len), random.below(255) + 1);
            buf[at as usize] ^= bits as u8;
        }
    }
}

impl Disk for Fault {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.below)
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let spoil = self.faults.strike(Op::Read, at, buf.len() as u64).await?;
        self.below.read(at, buf).await?;
        if spoil {
            self.faults.spoil(buf);
        }
        Ok(())
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let len = buf.len() as u64;
        if !self.faults.strike(Op::Write, at, len).await? {
            return self.below.write(at, buf, fua).await;
        }
        let mut copy = Buf::copy_of(buf);
        self.faults.spoil(&mut copy);
        self.below.write(at, &copy, fua).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        self.faults.strike(Op::Write, at, len).await?;
        self.below.write_zeroes(at, len, fua).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.faults.strike(Op::Flush, 0, 0).await?;
        self.below.flush().await
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.faults.strike(Op::Discard, at, len).await?;
        self.below.discard(at, len).await
    }
}

/// Those of which the data is left as it is.
struct Hooked(Rc<Faults>);

impl Hook for Hooked {
    fn request(&self, request: Passing) -> Verdict {
        let at = request.sector().saturating_mul(512);
        let len = request.nr_sectors().saturating_mul(512);
        let barrier = request.flags() & flag::BARRIER != 0;
        let hit = match request.op() {
            op::READ => self.0.hits(Op::Read, at, len),
            // It is a flush and a write.
            op::WRITE if barrier && self.0.hits(Op::Flush, 0, 0) => true,
            op::WRITE => self.0.hits(Op::Write, at, len),
            op::FLUSH => self.0.hits(Op::Flush, 0, 0),
            op::DISCARD => self.0.hits(Op::Discard, at, len),
            _ => false,
        };
        if !hit {
            return Verdict::Pass(request);
        }
        rt::spawn(self.0.clone().pass(request)).detach();
        Verdict::Consume
    }

    fn wants_replies(&self) -> bool {
        false
    }
}

const EOPNOTSUPP: i32 = 95;

/// What `error` may be, from errno(3), but for numbers.
const ERRORS: [(&str, i32); 9] = [
    ("EIO", 5),
    ("ENXIO", 6),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EINVAL", 22),
    ("ENOSPC", 28),
    ("EROFS", 30),
    ("EOPNOTSUPP", EOPNOTSUPP),
    ("ETIMEDOUT", 110),
];

impl Extension for Fault {
    const NAME: &str = "fault";
    const HELP: &str = "delays requests, fails them, or makes their data wrong

One rule: what is done to which requests. For several rules, put several into the chain.";
    const OPTIONS: &[Opt] = &[
        Opt::may("error", "fail them: EIO, ENOSPC and so on, or a number"),
        Opt::may("delay", "keep them so long, such as 10ms"),
        Opt::may(
            "corrupt",
            "so many bytes of a read's or a write's data are made wrong",
        ),
        Opt::may(
            "op",
            "of: read, write, flush, discard, several with / between [all]",
        ),
        Opt::or("from", "0", "of requests with a byte from here on"),
        Opt::may("to", "and before this [the end]"),
        Opt::may("nth", "of those only the nth, counted from 1"),
        Opt::or("every", "1", "of those each nth"),
        Opt::or("p", "1", "of those by chance: 0 to 1, or as 0.1%"),
        Opt::may("times", "not more than so many"),
        Opt::or("seed", "0", "a number: the same one gives the same chances"),
    ];
    const FILTER: bool = true;

    fn is_hook(options: &Options) -> bool {
        options.get("corrupt").is_none()
    }

    async fn hook(options: &Options) -> io::Result<Rc<dyn Hook>> {
        Ok(Rc::new(Hooked(Faults::new(options)?)))
    }

    async fn open(options: &Options) -> io::Result<Self> {
        Ok(Self {
            below: options.below()?,
            faults: Faults::new(options)?,
        })
    }
}

impl Faults {
    fn new(options: &Options) -> io::Result<Rc<Self>> {
        let number = |name| options.get(name).map(|_| options.number(name)).transpose();
        let bytes = |name| options.get(name).map(|_| options.bytes(name)).transpose();
        let delay = options
            .get("delay")
            .map(|_| options.time("delay"))
            .transpose()?;
        let error = options.get("error").map(|text| {
            let named = ERRORS
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, error)| *error);
            let number = text.parse().ok().filter(|error| (1..4096).contains(error));
            let names = ERRORS.map(|(name, _)| name).join(", ");
            let what = format!("error is a number from errno(3), or one of {names}");
            named.or(number).ok_or_else(|| options.wrong("error", what))
        });
        let (error, corrupt) = (error.transpose()?, number("corrupt")?.unwrap_or(0));
        if delay.is_none() && error.is_none() && corrupt == 0 {
            let what = "fault needs something to do: error=…, delay=… or corrupt=…";
            return Err(options.wrong("error", what));
        }
        let ops = options.get("op").map(|text| {
            let op = |text| {
                NAMES
                    .iter()
                    .find(|(name, _)| *name == text)
                    .map(|(_, op)| *op)
            };
            let ops: Option<Vec<Op>> = text.split('/').map(op).collect();
            let what = "op is read, write, flush or discard, or several, such as read/write";
            ops.ok_or_else(|| options.wrong("op", what))
        });
        let p = chance(options.text("p")?);
        let rule = Rule {
            ops: ops.transpose()?.unwrap_or(NAMES.map(|(_, op)| op).into()),
            bytes: options.bytes("from")?..bytes("to")?.unwrap_or(u64::MAX),
            nth: number("nth")?,
            every: options.number("every")?.max(1),
            chance: p.ok_or_else(|| options.wrong("p", "p is from 0 to 1, or such as 0.1%"))?,
            times: number("times")?.unwrap_or(u64::MAX),
            seen: 0,
            hit: 0,
            random: Random::new(options.number("seed")?),
        };
        debug_assert!(rule.chance <= ALWAYS);
        Ok(Rc::new(Self {
            rule: RefCell::new(rule),
            delay,
            error,
            corrupt,
            log: Log::new(options.chain()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{open_over, rehearsal, Fake, World};
    use std::time::Instant;

    async fn read(disk: &AnyDisk, at: u64) -> io::Result<Vec<u8>> {
        let mut buf = Buf::zeroed(512);
        disk.read(at, &mut buf).await.map(|()| buf.to_vec())
    }

    #[test]
    fn faults_are_as_the_rules_say() {
        rt::run(async {
            let fake = Fake::stamped(&World::new(1), 64);
            let first = fake.data();
            let chain = "fault:error=ENOSPC,op=write/flush,nth=2+fault:delay=30ms,op=discard+\
                         fault:error=5,from=1k,to=2k,times=1+fault:corrupt=3,op=read,from=8k";
            let disk = open_over(&fake, chain).await.unwrap();
            let zeroes = Buf::zeroed(512);
            disk.write(0, &zeroes, false).await.unwrap();
            let error = disk.flush().await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            disk.flush().await.unwrap();
            let start = Instant::now();
            disk.discard(0, 512).await.unwrap();
            assert!(start.elapsed() >= Duration::from_millis(30));
            assert_eq!(read(&disk, 1024).await.unwrap_err().raw_os_error(), Some(5));
            assert!(read(&disk, 1024).await.unwrap() == first[1024..1536]);
            let spoiled = read(&disk, 8192).await.unwrap();
            let wrong = spoiled.iter().zip(&first[8192..]).filter(|(a, b)| a != b);
            assert!((1..=3).contains(&wrong.count()));
            assert!(fake.data()[8192..8704] == first[8192..8704]);
        })
        .unwrap();
    }

    #[test]
    fn faults_at_hooks() {
        rt::run(async {
            let chain = "fault:error=EOPNOTSUPP,op=flush,times=1+fault:delay=30ms,op=discard+\
                         fault:error=EIO,op=write,from=8k,to=16k";
            let guest = rehearsal(chain).await.unwrap();
            let answer = |id| {
                let guest = &guest;
                async move {
                    while guest.answer(id).is_none() {
                        guest.changed().await;
                    }
                    guest.answer(id).unwrap()
                }
            };
            let flush = guest.ask(op::FLUSH, 0, 0, 0);
            assert_eq!(answer(flush).await, status::EOPNOTSUPP);
            let hit = guest.ask(op::WRITE, 0, 31, 4);
            assert_eq!(answer(hit).await, status::ERROR);
            let missed = guest.ask(op::WRITE, flag::BARRIER, 32, 4);
            assert_eq!(guest.asked().len(), 1);
            guest.reply(status::OKAY);
            assert_eq!(guest.answer(missed), Some(status::OKAY));
            let start = Instant::now();
            guest.ask(op::DISCARD, 0, 0, 8);
            while guest.asked().is_empty() {
                guest.changed().await;
            }
            assert!(start.elapsed() >= Duration::from_millis(30));
            // A barrier is a flush too.
            let guest = rehearsal("fault:error=EIO,op=flush").await.unwrap();
            guest.ask(op::WRITE, flag::BARRIER, 0, 8);
            assert!(guest.asked().is_empty());
            // This one looks at data.
            assert!(rehearsal("fault:corrupt=1").await.is_err());
        })
        .unwrap();
    }

    #[test]
    fn writes_are_spoiled_on_the_way() {
        rt::run(async {
            let fake = Fake::new(&World::new(1), vec![0; 4096]);
            let disk = open_over(&fake, "fault:corrupt=1,op=write").await.unwrap();
            let buf = Buf::zeroed(1024);
            disk.write(512, &buf, false).await.unwrap();
            assert!(buf.iter().all(|byte| *byte == 0));
            assert_eq!(fake.data().iter().filter(|byte| **byte != 0).count(), 1);
        })
        .unwrap();
    }

    #[test]
    fn rules_are_checked() {
        rt::run(async {
            let fake = Fake::stamped(&World::new(1), 64);
            for (text, what) in [
                ("fault", "fault needs something to do"),
                ("fault:error=EWHAT", "or one of EIO"),
                ("fault:error=0", "a number from errno(3)"),
                ("fault:delay=1ms,op=reed", "op is read, write"),
                ("fault:delay=1ms,p=2", "p is from 0 to 1"),
                ("fault:delay=1", "delay is a time"),
            ] {
                let error = open_over(&fake, text).await.err().unwrap().to_string();
                assert!(error.contains(what), "{error}");
            }
        })
        .unwrap();
    }
}
