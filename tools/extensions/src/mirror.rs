// SPDX-License-Identifier: GPL-2.0
//! `mirror`: two disks with the same content.
//!
//! - `mirror/map.rs`: which regions of which of them are stale, or may be after a power cut
//! - `mirror/resync.rs`: the tasks behind it
//!
//! The two are called legs: 0, the disk below, and 1, the other. A region is stale on a leg if the
//! leg lacks something there that the other has; never on both. A leg has failed when it refused
//! a write or a flush; then it is not used, unless it alone has a region, and what is written gets
//! stale on it. The resync tries it again from time to time.

mod map;
mod resync;
#[cfg(test)]
mod tests;

use crate::common::{lock, make_file, Data};
use crate::throttle::Bucket;
use map::Map;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::pending;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tap::log::Log;
use tap::rt::{self, Notify};
use tap::{AnyDisk, Buf, Disk, Extension, Info, Opt, Options, Raw};

/// Two disks with the same content.
pub struct Mirror {
    legs: Rc<Legs>,
    _tasks: [rt::Task<()>; 2],
    /// Keeps other programs from the map.
    _lock: Option<fs::File>,
}

struct Settings {
    /// The leg that is read if both can be.
    read: usize,
    retry: Duration,
    settle: Duration,
    rate: Option<RefCell<Bucket>>,
}

struct Legs {
    legs: [AnyDisk; 2],
    names: [&'static str; 2],
    map: Map,
    settings: Settings,
    log: Log,
    start: Instant,
    failed: [Cell<bool>; 2],
    /// A flush has failed that no guest has asked for, and the next must.
    lost: Cell<bool>,
    resyncing: [Cell<bool>; 2],
    /// Regions that the resync has copied, and that were not stale again since.
    copied: [RefCell<BTreeSet<u64>>; 2],
    /// Writes that overlap go one after the other, or the legs might differ.
    ranges: rt::Ranges,
    /// Regions that are, or were lately, written to.
    active: RefCell<BTreeMap<u64, Active>>,
    changed: Notify,
}

#[derive(Default)]
struct Active {
    count: u32,
    touched: bool,
}

impl Legs {
    /// Regions are stale on `leg`.
    fn set_stale(&self, leg: usize, regions: Range<u64>) {
        for region in regions {
            self.copied[leg].borrow_mut().remove(&region);
            self.map.set_stale(leg, region);
        }
        self.changed.notify();
    }

    /// `leg` has failed. What was written lately may be lost there, also if it comes back.
    fn fail(&self, leg: usize, doing: &str, error: &io::Error) {
        self.log
            .error(&format!("{doing} of {}", self.names[leg]), error);
        if !self.failed[leg].replace(true) {
            let (bad, good) = (self.names[leg], self.names[1 - leg]);
            self.log
                .info(format_args!("{bad} has failed, {good} goes on alone"));
        }
        for region in self.map.written() {
            if !self.map.is_stale(1 - leg, region) {
                self.set_stale(leg, region..region + 1);
            }
        }
    }

    /// Whether `leg` has not failed; if both have, both are tried.
    fn is_used(&self, leg: usize) -> bool {
        !self.failed[leg].get() || self.failed[1 - leg].get()
    }

    /// Whether `leg` alone has one of `regions`.
    fn is_needed(&self, leg: usize, mut regions: Range<u64>) -> bool {
        self.map.stale(1 - leg) > 0 && regions.any(|region| self.map.is_stale(1 - leg, region))
    }

    /// How long the resync waits before it copies so much.
    fn pace(&self, bytes: u64) -> Duration {
        let take = |bucket: &RefCell<Bucket>| {
            let now = self.start.elapsed();
            bucket.borrow_mut().take(now, bytes)
        };
        self.settings.rate.as_ref().map(take).unwrap_or_default()
    }

    async fn write(&self, at: u64, data: Data<'_>, fua: bool) -> io::Result<()> {
        let _alone = self.ranges.lock(at..at + data.len()).await;
        let regions = self.map.regions(at, data.len());
        let mut flight = Flight::new(self, regions.clone());
        for region in regions.clone() {
            self.map.set_written(region);
        }
        self.map.save().await?;
        flight.begun = true;
        let put = |leg: usize| {
            let used = self.is_used(leg) || self.is_needed(leg, regions.clone());
            async move {
                match used {
                    true => Some(data.put(&self.legs[leg], at, fua).await),
                    false => None,
                }
            }
        };
        let (first, second) = rt::join(put(0), put(1)).await;
        flight.begun = false;
        let done = [first, second];
        if done.iter().all(|done| matches!(done, Some(Ok(())))) {
            return Ok(());
        }
        let result = self.judge(&done, regions);
        let saved = self.map.save().await;
        result.and(saved)
    }

    /// What to make of a write that was not done on both legs.
    fn judge(&self, done: &[Option<io::Result<()>>; 2], regions: Range<u64>) -> io::Result<()> {
        let ok = [0, 1].map(|leg| matches!(done[leg], Some(Ok(()))));
        let mut lost = false;
        for region in regions {
            let stale = [0, 1].map(|leg| self.map.is_stale(leg, region));
            match [0, 1].map(|leg| ok[leg] && !stale[leg]) {
                [true, true] => (),
                [true, false] => self.set_stale(1, region..region + 1),
                [false, true] => self.set_stale(0, region..region + 1),
                [false, false] => {
                    lost = true;
                    // Whatever is there now, it is to be the same on both.
                    let other = usize::from(!stale[0]);
                    self.set_stale(other, region..region + 1);
                }
            }
        }
        let mut error = None;
        for leg in 0..2 {
            if let Some(Err(found)) = &done[leg] {
                if ok[1 - leg] && !lost {
                    self.fail(leg, "write", found);
                }
                error = Some(io::Error::new(found.kind(), found.to_string()));
            }
        }
        match (lost, error) {
            (true, Some(error)) => Err(error),
            (true, None) => Err(io::Error::other("no leg of the mirror has this region")),
            (false, _) => Ok(()),
        }
    }

    async fn flush_legs(&self) -> io::Result<()> {
        let flush = |leg: usize| {
            let used = self.is_used(leg) || self.map.stale(1 - leg) > 0;
            async move {
                match used {
                    true => Some(self.legs[leg].flush().await),
                    false => None,
                }
            }
        };
        let (first, second) = rt::join(flush(0), flush(1)).await;
        let flushed = [&first, &second].map(|done| matches!(done, Some(Ok(()))));
        let mut result = Ok(());
        for (leg, done) in [first, second].into_iter().enumerate() {
            if let Some(Err(error)) = done {
                let covered = self.unflushed(leg, &error);
                if !covered || !flushed[1 - leg] {
                    result = Err(error);
                }
            }
        }
        if self.lost.take() && result.is_ok() {
            result = Err(io::Error::other("a flush has failed before"));
        }
        let saved = self.map.save().await;
        result.and(saved)
    }

    /// `leg` could not be flushed: what was written lately is stale there. Whether the other has it.
    fn unflushed(&self, leg: usize, error: &io::Error) -> bool {
        self.fail(leg, "flush", error);
        let mut written = self.map.written().into_iter();
        !written.any(|region| self.map.is_stale(1 - leg, region))
    }

    /// The leg to read a region from.
    fn source(&self, region: u64) -> usize {
        let first = self.settings.read;
        match self.map.is_stale(first, region) || self.failed[first].get() {
            true if !self.map.is_stale(1 - first, region) => 1 - first,
            _ => first,
        }
    }

    /// Reads what is in `regions`, from `leg`, or else from the other.
    async fn read_run(
        &self,
        leg: usize,
        regions: Range<u64>,
        at: u64,
        buf: &mut Buf,
    ) -> io::Result<()> {
        let len = buf.len();
        let Err(error) = self.legs[leg].read(at, buf).await else {
            return Ok(());
        };
        // A disk may keep the memory of a read that has failed.
        if self.is_needed(leg, regions.clone()) || buf.len() != len {
            return Err(error);
        }
        self.log
            .error(&format!("read of {}", self.names[leg]), &error);
        self.legs[1 - leg].read(at, buf).await?;
        // The resync writes it anew, from the other: a bad sector is replaced by that.
        if !self.is_needed(leg, regions.clone()) {
            self.set_stale(leg, regions);
        }
        Ok(())
    }
}

/// A write that is under way in some regions. If it is given up, the legs may differ there.
struct Flight<'a> {
    legs: &'a Legs,
    regions: Range<u64>,
    begun: bool,
}

impl<'a> Flight<'a> {
    fn new(legs: &'a Legs, regions: Range<u64>) -> Self {
        for region in regions.clone() {
            let mut active = legs.active.borrow_mut();
            let active = active.entry(region).or_default();
            active.count += 1;
            active.touched = true;
        }
        Self {
            legs,
            regions,
            begun: false,
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        for region in self.regions.clone() {
            if let Some(active) = self.legs.active.borrow_mut().get_mut(&region) {
                active.count -= 1;
            }
            if self.begun {
                let leg = usize::from(!self.legs.map.is_stale(0, region));
                self.legs.set_stale(leg, region..region + 1);
            }
        }
    }
}

impl Mirror {
    async fn new(
        legs: [AnyDisk; 2],
        map: AnyDisk,
        settings: Settings,
        log: Log,
    ) -> io::Result<Self> {
        let size = legs[0].info().size;
        let map = Map::open(map, size).await?;
        let legs = Rc::new(Legs {
            legs,
            names: ["the disk below", "the other disk"],
            map,
            settings,
            log,
            start: Instant::now(),
            failed: Default::default(),
            lost: Cell::new(false),
            resyncing: Default::default(),
            copied: Default::default(),
            ranges: rt::Ranges::new(),
            active: RefCell::default(),
            changed: Notify::new(),
        });
        let tasks = [
            rt::spawn(legs.clone().resync()),
            rt::spawn(legs.clone().settle()),
        ];
        Ok(Self {
            legs,
            _tasks: tasks,
            _lock: None,
        })
    }
}

impl Disk for Mirror {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.legs.legs[0])
    }

    fn info(&self) -> Info {
        let [first, second] = [0, 1].map(|leg: usize| self.legs.legs[leg].info());
        Info {
            block_size: first.block_size.max(second.block_size),
            physical_block_size: first.physical_block_size.max(second.physical_block_size),
            discard: first.discard && second.discard,
            discard_granularity: first.discard_granularity.max(second.discard_granularity),
            ..first
        }
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let legs = &*self.legs;
        let mut runs: Vec<(usize, Range<u64>)> = Vec::new();
        for region in legs.map.regions(at, buf.len() as u64) {
            let leg = legs.source(region);
            match runs.last_mut() {
                Some((last, run)) if *last == leg => run.end = region + 1,
                _ => runs.push((leg, region..region + 1)),
            }
        }
        let end = at + buf.len() as u64;
        for (leg, regions) in runs {
            let start = at.max(legs.map.bytes(regions.start).start);
            let end = end.min(legs.map.bytes(regions.end - 1).end);
            let mut part = buf.part_mut((start - at) as usize..(end - at) as usize);
            legs.read_run(leg, regions, start, &mut part).await?;
        }
        Ok(())
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        self.legs.write(at, Data::Bytes(buf), fua).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        self.legs.write(at, Data::Zeroes(len), fua).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.legs.flush_legs().await
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        let legs = &*self.legs;
        let _alone = legs.ranges.lock(at..at + len).await;
        for leg in (0..2).filter(|leg: &usize| !legs.failed[*leg].get()) {
            // It changes nothing that anybody may rely on, wherever it was done.
            if let Err(error) = legs.legs[leg].discard(at, len).await {
                legs.log
                    .error(&format!("discard of {}", legs.names[leg]), &error);
            }
        }
        Ok(())
    }

    async fn resized(&self) {
        pending().await
    }

    async fn close(&self) -> io::Result<()> {
        let flushed = self.legs.flush_legs().await;
        self.legs.active.borrow_mut().clear();
        self.legs.forget(&self.legs.map.written()).await;
        let saved = self.legs.map.save_all().await;
        flushed.and(saved).and(self.legs.legs[1].close().await)
    }
}

impl Extension for Mirror {
    const NAME: &str = "mirror";
    const HELP: &str = "keeps a second disk with the same content

Writes go to both, reads come from one. If one fails, the other goes on alone; what the failed one
lacks is written down in a map, and copied to it while the disk is in use, when it is back. The map is
a small file of its own, which must be there whenever the two are used; keep it on a third disk, or
where losing it costs a full copy only. Its format is described in Documentation/extensions/mirror.md.";
    const OPTIONS: &[Opt] = &[
        Opt::must("to", "the second disk: a path, or a chain"),
        Opt::must(
            "map",
            "path of the file with what is not in sync, made if it is not there",
        ),
        Opt::or(
            "first",
            "copy",
            "when the map is made: copy all to the second disk; equal: they are the same already",
        ),
        Opt::or(
            "read",
            "below",
            "what to read from: below, the disk below; to, the second",
        ),
        Opt::may(
            "rate",
            "bytes a second of the resync, such as 50M [no limit]",
        ),
        Opt::or("retry", "10s", "when to try a disk again that has failed"),
        Opt::may(
            "region",
            "bytes that the map has a mark for, when it is made [1M]",
        ),
    ];
    const FILTER: bool = true;

    async fn open(options: &Options) -> io::Result<Self> {
        let legs = [options.below()?, options.disk("to", false).await?];
        let infos = [0, 1].map(|leg: usize| legs[leg].info());
        let size = infos[0].size;
        if infos[1].size < size {
            let what = format!("it has {} bytes, the disk below has {size}", infos[1].size);
            return Err(options.wrong("to", what));
        }
        if infos.iter().any(|info| info.read_only) {
            return Err(options.wrong("to", "a mirror writes to both disks, and one is read-only"));
        }
        let equal = match options.text("first")? {
            "copy" => false,
            "equal" => true,
            _ => return Err(options.wrong("first", "first is copy or equal")),
        };
        let region = match options.get("region") {
            Some(_) => options.bytes("region")?,
            None => 1 << 20,
        };
        if !region.is_power_of_two() || !(4096..=1 << 30).contains(&region) {
            return Err(options.wrong("region", "region is a power of two from 4k to 1G"));
        }
        let rate = options
            .get("rate")
            .map(|_| options.bytes("rate"))
            .transpose()?;
        let rate = rate.map(|rate| RefCell::new(Bucket::new(rate, Duration::from_millis(100))));
        let read = match options.text("read")? {
            "below" => 0,
            "to" => 1,
            _ => return Err(options.wrong("read", "read is below or to")),
        };
        let path = options.path("map")?;
        if fs::metadata(&path).map_or(true, |meta| meta.is_file() && meta.len() == 0) {
            let fill = |file| async move { Map::create(&file, size, region, equal).await };
            make_file(&path, map::file_len(size, region), fill).await?;
        }
        let settings = Settings {
            read,
            retry: options.time("retry")?,
            settle: Duration::from_secs(5),
            rate,
        };
        let lock = lock(&path).await?;
        let map = AnyDisk::new(Raw::open(&path, false, false)?);
        let context =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mirror = Self::new(legs, map, settings, Log::new(options.chain())).await;
        let mut mirror = mirror.map_err(context)?;
        mirror._lock = Some(lock);
        Ok(mirror)
    }
}
