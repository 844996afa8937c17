// SPDX-License-Identifier: GPL-2.0
//! For tests: disks in memory that remember what was written and flushed when, and what they hold
//! after a power cut at any moment.

pub use crate::fault::rule::Op;
pub use crate::random::Random;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use tap::{rt, AnyDisk, Buf, Disk, Info};

/// Bytes that are written as a whole, or not.
pub const SECTOR: usize = 512;

/// What several [`Fake`]s and a [`Guest`] share: the order of what happens, and chance.
pub struct World {
    pub random: Random,
    clock: Cell<usize>,
}

impl World {
    pub fn new(seed: u64) -> Rc<Self> {
        Rc::new(Self {
            random: Random::new(seed),
            clock: Cell::new(0),
        })
    }
    /// How many things have happened.
    pub fn now(&self) -> usize {
        self.clock.get()
    }
    fn tick(&self) -> usize {
        self.clock.replace(self.clock.get() + 1)
    }
    /// Others may go first.
    async fn dawdle(&self) {
        for _ in 0..self.random.below(4) {
            rt::yield_now().await;
        }
    }
}

struct Written {
    at: usize,
    data: Vec<u8>,
    fua: bool,
    start: usize,
    end: Option<usize>,
}

type Hook = Box<dyn FnMut(Op, u64, u64) -> io::Result<()>>;

/// A disk in memory. Clones are the same.
#[derive(Clone)]
pub struct Fake(Rc<Inner>);

struct Inner {
    world: Rc<World>,
    info: Cell<Info>,
    first: Vec<u8>,
    data: RefCell<Vec<u8>>,
    writes: RefCell<Vec<Written>>,
    flushes: RefCell<Vec<(usize, usize)>>,
    hook: RefCell<Option<Hook>>,
    grows: Cell<bool>,
    pub counts: [Cell<u64>; 4],
}

impl Fake {
    pub fn new(world: &Rc<World>, data: Vec<u8>) -> Self {
        let info = Info {
            discard: true,
            ..Info::new(data.len() as u64)
        };
        Self(Rc::new(Inner {
            world: world.clone(),
            info: Cell::new(info),
            first: data.clone(),
            data: RefCell::new(data),
            writes: RefCell::default(),
            flushes: RefCell::default(),
            hook: RefCell::default(),
            grows: Cell::new(false),
            counts: Default::default(),
        }))
    }

    /// A disk whose every sector is filled with its number and a high bit.
    pub fn stamped(world: &Rc<World>, sectors: u64) -> Self {
        let stamp = |sector: u64| first_stamp(sector).to_le_bytes().repeat(SECTOR / 8);
        Self::new(world, (0..sectors).flat_map(stamp).collect())
    }

    pub fn any(&self) -> AnyDisk {
        AnyDisk::new(self.clone())
    }

    pub fn set_info(&self, change: impl FnOnce(&mut Info)) {
        let mut info = self.0.info.get();
        change(&mut info);
        self.0.info.set(info);
    }

    /// It grows by writes behind its end, as a file does.
    pub fn growing(self) -> Self {
        self.0.grows.set(true);
        self
    }

    /// `hook` is asked at the start of each request, which fails as it says.
    pub fn hook(&self, hook: impl FnMut(Op, u64, u64) -> io::Result<()> + 'static) {
        *self.0.hook.borrow_mut() = Some(Box::new(hook));
    }

    pub fn unhook(&self) {
        *self.0.hook.borrow_mut() = None;
    }

    /// How many such requests there were.
    pub fn count(&self, op: Op) -> u64 {
        self.0.counts[op as usize].get()
    }

    /// What it holds now.
    pub fn data(&self) -> Vec<u8> {
        self.0.data.borrow().clone()
    }

    /// Loses what was not flushed, but goes on.
    pub fn lose_cache(&self) {
        let data = self.after_cut(self.0.world.now(), &self.0.world.random);
        *self.0.data.borrow_mut() = data;
    }

    /// What it holds if the power goes at `cut`: what was flushed, and of the rest any sectors.
    pub fn after_cut(&self, cut: usize, random: &Random) -> Vec<u8> {
        let mut data = self.0.first.clone();
        let (writes, flushes) = (self.0.writes.borrow(), self.0.flushes.borrow());
        let mut order: Vec<&Written> = writes.iter().filter(|w| w.start < cut).collect();
        order.sort_by_key(|w| w.end.unwrap_or(usize::MAX));
        let luck = random.below(3);
        for write in order {
            let end = write.end.filter(|end| *end < cut);
            let stable = end.is_some_and(|end| {
                let covers = |(from, to): &(usize, usize)| *from > end && *to < cut;
                write.fua || flushes.iter().any(covers)
            });
            for (index, sector) in write.data.chunks(SECTOR).enumerate() {
                // Sometimes all that was not flushed is lost, sometimes nothing.
                let lucky = luck == 0 || (luck == 1 && random.below(2) == 0);
                if stable || lucky {
                    let at = write.at + index * SECTOR;
                    data.resize(data.len().max(at + sector.len()), 0);
                    data[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        data
    }

    fn start(&self, op: Op, at: u64, len: u64) -> io::Result<usize> {
        let inner = &self.0;
        let count = &inner.counts[op as usize];
        count.set(count.get() + 1);
        let end = at.saturating_add(len);
        let past = op != Op::Flush && end > inner.data.borrow().len() as u64;
        if past && !(inner.grows.get() && op == Op::Write) {
            return Err(io::Error::other("past the end"));
        }
        if let Some(hook) = inner.hook.borrow_mut().as_mut() {
            hook(op, at, len)?;
        }
        if past {
            inner.data.borrow_mut().resize(end as usize, 0);
            self.set_info(|info| info.size = end);
        }
        Ok(inner.world.tick())
    }
}

impl Disk for Fake {
    fn info(&self) -> Info {
        self.0.info.get()
    }
    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        self.start(Op::Read, at, buf.len() as u64)?;
        self.0.world.dawdle().await;
        let len = buf.len();
        buf.copy_from_slice(&self.0.data.borrow()[at as usize..][..len]);
        self.0.world.dawdle().await;
        Ok(())
    }
    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let start = self.start(Op::Write, at, buf.len() as u64)?;
        let index = self.0.writes.borrow().len();
        self.0.writes.borrow_mut().push(Written {
            at: at as usize,
            data: buf.to_vec(),
            fua,
            start,
            end: None,
        });
        self.0.world.dawdle().await;
        let end = self.0.world.tick();
        self.0.data.borrow_mut()[at as usize..][..buf.len()].copy_from_slice(buf);
        self.0.writes.borrow_mut()[index].end = Some(end);
        Ok(())
    }
    async fn flush(&self) -> io::Result<()> {
        let start = self.start(Op::Flush, 0, 0)?;
        self.0.world.dawdle().await;
        let end = self.0.world.tick();
        self.0.flushes.borrow_mut().push((start, end));
        Ok(())
    }
    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.start(Op::Discard, at, len)?;
        // It is what a file with a hole does, and as much of a write as the power cut needs.
        Disk::write(self, at, &Buf::zeroed(len as usize), false).await
    }
}

/// The number in each sector of a [`Fake::stamped`] disk.
pub fn first_stamp(sector: u64) -> u64 {
    sector | 1 << 40
}

struct Sent {
    sectors: std::ops::Range<u64>,
    stamp: u64,
    fua: bool,
    discard: bool,
    start: usize,
    end: Option<usize>,
}

impl Sent {
    fn ended_before(&self, time: usize) -> bool {
        self.end.is_some_and(|end| end < time)
    }
}

/// Somebody who writes to a disk, and knows what may be read of it afterwards. Each write fills its
/// sectors with a number of its own.
pub struct Guest {
    world: Rc<World>,
    sent: RefCell<Vec<Sent>>,
    flushes: RefCell<Vec<(usize, usize)>>,
    /// Whether it discards.
    pub discards: Cell<bool>,
    /// Whether the disk was a [`Fake::stamped`] one; zeroes otherwise.
    pub first: Cell<bool>,
}

impl Guest {
    pub fn new(world: &Rc<World>) -> Rc<Self> {
        Rc::new(Self {
            world: world.clone(),
            sent: RefCell::default(),
            flushes: RefCell::default(),
            discards: Cell::new(true),
            first: Cell::new(true),
        })
    }

    fn send(&self, sectors: std::ops::Range<u64>, fua: bool, discard: bool) -> usize {
        let mut sent = self.sent.borrow_mut();
        let stamp = sent.len() as u64 + 1;
        sent.push(Sent {
            sectors,
            stamp,
            fua,
            discard,
            start: self.world.tick(),
            end: None,
        });
        sent.len() - 1
    }

    fn done(&self, index: usize) {
        self.sent.borrow_mut()[index].end = Some(self.world.tick());
    }

    pub async fn write(
        &self,
        disk: &AnyDisk,
        sector: u64,
        count: u64,
        fua: bool,
    ) -> io::Result<()> {
        let index = self.send(sector..sector + count, fua, false);
        let stamp = (index as u64 + 1).to_le_bytes();
        let buf = Buf::copy_of(&stamp.repeat(count as usize * SECTOR / 8));
        disk.write(sector * SECTOR as u64, &buf, fua).await?;
        self.done(index);
        Ok(())
    }

    pub async fn flush(&self, disk: &AnyDisk) -> io::Result<()> {
        let start = self.world.tick();
        disk.flush().await?;
        let end = self.world.tick();
        self.flushes.borrow_mut().push((start, end));
        Ok(())
    }

    pub async fn discard(&self, disk: &AnyDisk, sector: u64, count: u64) -> io::Result<()> {
        let index = self.send(sector..sector + count, false, true);
        let unit = SECTOR as u64;
        disk.discard(sector * unit, count * unit).await?;
        self.done(index);
        Ok(())
    }

    /// `count` random requests on a disk of `sectors`, some at the same time; those that fail are
    /// as if they had not ended.
    pub async fn busy(self: &Rc<Self>, disk: &AnyDisk, sectors: u64, count: usize) {
        let tasks = (0..4).map(|_| {
            let (guest, disk) = (self.clone(), disk.clone());
            rt::spawn(async move {
                for _ in 0..count / 4 {
                    let random = &guest.world.random;
                    let at = random.below(sectors);
                    let len = 1 + random.below(20.min(sectors - at));
                    let _ = match random.below(12) {
                        0 | 1 => guest.flush(&disk).await,
                        2 if guest.discards.get() => guest.discard(&disk, at, len).await,
                        3 => guest.write(&disk, at, len, true).await,
                        _ => guest.write(&disk, at, len, false).await,
                    };
                }
            })
        });
        rt::join_all(tasks.collect::<Vec<_>>()).await;
    }

    /// Panics if `data` is nothing that the disk may hold: after a power cut at `cut`, or else now.
    pub fn check(&self, data: &[u8], cut: Option<usize>) {
        let (sent, flushes) = (self.sent.borrow(), self.flushes.borrow());
        let stable = |sent: &Sent| match (cut, sent.end) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(cut), Some(end)) => {
                let covers = |(from, to): &(usize, usize)| *from > end && *to < cut;
                end < cut && (sent.fua || flushes.iter().any(covers))
            }
        };
        let cut = cut.unwrap_or(usize::MAX);
        for (sector, bytes) in data.chunks(SECTOR).enumerate() {
            let sector = sector as u64;
            let of: Vec<&Sent> = sent
                .iter()
                .filter(|sent| sent.sectors.contains(&sector) && sent.start < cut)
                .collect();
            let last: Vec<&&Sent> = of.iter().filter(|sent| stable(sent)).collect();
            let over = |sent: &Sent| last.iter().any(|last| sent.ended_before(last.start));
            let may: Vec<&&Sent> = of.iter().filter(|sent| !over(sent)).collect();
            if may.iter().any(|sent| sent.discard) {
                continue;
            }
            let stamp: [u8; 8] = bytes[..8].try_into().unwrap();
            assert!(
                bytes.chunks(8).all(|chunk| chunk == stamp),
                "torn sector {sector}"
            );
            let stamp = u64::from_le_bytes(stamp);
            let before = if self.first.get() {
                first_stamp(sector)
            } else {
                0
            };
            let first = last.is_empty() && stamp == before;
            assert!(
                first || may.iter().any(|sent| sent.stamp == stamp),
                "sector {sector} after {cut}: {stamp:x}, it may be {:x?}",
                may.iter().map(|sent| sent.stamp).collect::<Vec<_>>()
            );
        }
    }
}

/// All of a disk.
pub async fn contents(disk: &AnyDisk) -> io::Result<Vec<u8>> {
    let mut buf = Buf::zeroed(disk.info().size as usize);
    disk.read(0, &mut buf).await?;
    Ok(buf.to_vec())
}

/// The filters of `text` over a disk.
pub async fn open_over(below: &Fake, text: &str) -> io::Result<AnyDisk> {
    let registry = std::sync::Arc::new(crate::registry());
    let chain = tap::chain::Chain::parse(&registry, text)?;
    chain.open(Some(below.any())).await
}

/// A chain as hooks, with a guest and a disk.
pub async fn rehearsal(text: &str) -> io::Result<tap::dev::Rehearsal> {
    let registry = std::sync::Arc::new(crate::registry());
    let chain = tap::chain::Chain::parse(&registry, text)?;
    if !chain.is_hooks() {
        return Err(io::Error::other("these are not all hooks"));
    }
    Ok(tap::dev::Rehearsal::new(chain.open_hooks().await?))
}

/// A folder that goes when it is dropped.
pub struct Folder(pub std::path::PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tap-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
