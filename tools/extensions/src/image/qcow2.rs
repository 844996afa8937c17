// SPDX-License-Identifier: GPL-2.0
//! A qcow2 image as a disk.
//!
//! What survives what:
//! - When a write has returned, its data and its entry in the table are with the kernel: the end of
//!   this program does not matter.
//! - While the image is open for writing and was written to, its header says that the reference
//!   counts are not right ("dirty"): whoever opens it next counts anew, as QEMU does as well.
//! - After a power cut each entry of a table is the new one or the old one. It must lead to
//!   something that belongs to it either way: so the content of a new table is made stable before
//!   anything points to it, and a cluster that was given up is used again only after a flush. The
//!   same goes for a new cluster, unless what is there without its data is what was there before:
//!   zeroes.
//!
//! Locks: `ranges` of the disk, shared by reads and by writes to clusters that have their place,
//! alone for all that moves clusters; then `tables`, for a piece of a table while it is written.
//!
//! - `qcow2/tables.rs`: what the file has besides data
//! - `qcow2/file.rs`: reading it

mod file;
mod tables;

use super::header::{Header, DIRTY};
use super::map::{self, Map, Place};
use super::unzip::unzip;
use super::wrong;
use crate::common::Share;
use file::{numbers, read, read_disk};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use tap::rt::{Lock, Ranges};
use tap::{AnyDisk, Buf, Disk, Info, Raw};

/// So many clusters that were compressed are kept.
const UNZIPPED: usize = 8;

/// An image, in a file; or, in tests, in something that is none.
pub struct Qcow2<F = Raw> {
    file: F,
    header: Header,
    map: Map,
    backing: Option<AnyDisk>,
    read_only: bool,
    /// Bytes of the file, which grows by our writes.
    len: Cell<u64>,
    ranges: Ranges,
    tables: Ranges,
    /// Whether the header says that the counts are not right.
    dirty: Lock<bool>,
    /// For who adds a table.
    grow: Lock<()>,
    /// The table of refcount blocks.
    blocks: RefCell<Vec<u64>>,
    /// Flushes of new clusters' data.
    settling: Share,
    /// Clusters of the file that are free after the next flush.
    given_up: RefCell<Vec<u64>>,
    unzipped: RefCell<VecDeque<(u64, Rc<[u8]>)>>,
}

impl<F: Disk> Qcow2<F> {
    pub async fn open(
        file: F,
        header: Header,
        backing: Option<AnyDisk>,
        read_only: bool,
    ) -> io::Result<Self> {
        if let (false, Some(why)) = (read_only, header.fixed) {
            return Err(wrong(format!(
                "it cannot be written to: {why}; or readonly=yes"
            )));
        }
        let len = file.info().size;
        let l1 = numbers(&file, len, header.l1_at, header.l1_entries).await?;
        let cluster = header.cluster();
        let mut tables = Vec::new();
        for entry in &l1 {
            tables.push(match Map::table_at(*entry) {
                0 => None,
                at if at % cluster != 0 => return Err(wrong(format!("a table at {at}"))),
                at => Some(numbers(&file, len, at, cluster as usize / 8).await?.into()),
            });
        }
        let blocks = match read_only {
            true => Vec::new(),
            false => {
                let count = (header.table_clusters * cluster / 8) as usize;
                numbers(&file, len, header.table_at, count).await?
            }
        };
        let map = Map::new(&header, l1, tables);
        if !read_only {
            map.find_free(&map.count(&header, &blocks, len)?, len);
        }
        Ok(Self {
            dirty: Lock::new(header.incompatible & DIRTY != 0),
            file,
            header,
            map,
            backing,
            read_only,
            len: Cell::new(len),
            ranges: Ranges::new(),
            tables: Ranges::new(),
            grow: Lock::default(),
            blocks: RefCell::new(blocks),
            settling: Share::new(),
            given_up: RefCell::default(),
            unzipped: RefCell::default(),
        })
    }

    fn cluster(&self) -> u64 {
        self.header.cluster()
    }

    /// The clusters that have a byte of `at..at + len`, as a range of bytes.
    fn around(&self, at: u64, len: u64) -> Range<u64> {
        let size = self.cluster();
        at / size * size..(at + len).next_multiple_of(size)
    }

    /// The pieces of `at..at + len`, each with its place; those that are one behind the other in the
    /// same kind of place are one piece.
    fn pieces(&self, at: u64, len: u64) -> Vec<(Range<u64>, Place)> {
        let size = self.cluster();
        let mut all: Vec<(Range<u64>, Place)> = Vec::new();
        let (mut at, end) = (at, at + len);
        while at < end {
            let next = end.min((at / size + 1) * size);
            let place = match self.map.get(at / size) {
                Place::Data(host) => Place::Data(host + at % size),
                place => place,
            };
            match (all.last_mut(), place) {
                (Some((range, Place::Data(first))), Place::Data(this))
                    if *first + (range.end - range.start) == this =>
                {
                    range.end = next;
                }
                (Some((range, before @ (Place::Zero | Place::Backing))), _) if *before == place => {
                    range.end = next;
                }
                _ => all.push((at..next, place)),
            }
            at = next;
        }
        all
    }

    /// As a read; the caller has the range.
    async fn fill(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        for (range, place) in self.pieces(at, buf.len() as u64) {
            let mut part = buf.part_mut((range.start - at) as usize..(range.end - at) as usize);
            match place {
                Place::Data(host) => read(&self.file, self.len.get(), host, &mut part).await?,
                Place::Zero => part.fill(0),
                Place::Backing => match &self.backing {
                    Some(backing) => {
                        let len = backing.info().size;
                        read_disk(backing, len, range.start, &mut part).await?;
                    }
                    None => part.fill(0),
                },
                Place::Compressed(host, len) => {
                    let cluster = self.unzip(host, len).await?;
                    let from = (range.start % self.cluster()) as usize;
                    let len = part.len();
                    part.copy_from_slice(&cluster[from..from + len]);
                }
            }
        }
        Ok(())
    }

    async fn unzip(&self, at: u64, len: usize) -> io::Result<Rc<[u8]>> {
        let known = self
            .unzipped
            .borrow()
            .iter()
            .find(|(of, _)| *of == at)
            .cloned();
        if let Some((_, cluster)) = known {
            return Ok(cluster);
        }
        let first = at / 512 * 512;
        let mut buf = Buf::new((at + len as u64 - first).next_multiple_of(512) as usize);
        read(&self.file, self.len.get(), first, &mut buf).await?;
        let from = (at - first) as usize;
        let size = self.cluster() as usize;
        let cluster: Rc<[u8]> = unzip(&buf[from..from + len], size, self.header.zstd)?.into();
        let mut kept = self.unzipped.borrow_mut();
        kept.truncate(UNZIPPED - 1);
        kept.push_front((at, cluster.clone()));
        Ok(cluster)
    }

    async fn write_host(&self, at: u64, buf: &Buf) -> io::Result<()> {
        self.file.write(at, buf, false).await?;
        self.len.set(self.len.get().max(at + buf.len() as u64));
        Ok(())
    }

    /// Writes where at least one cluster has no place of its own. The caller has the clusters alone.
    async fn write_new(&self, at: u64, buf: &Buf) -> io::Result<()> {
        self.begin().await?;
        let size = self.cluster();
        let part =
            |range: &Range<u64>| buf.part((range.start - at) as usize..(range.end - at) as usize);
        let mut new = Vec::new();
        let written = async {
            let mut unsure = false;
            for (range, place) in self.pieces(at, buf.len() as u64) {
                if let Place::Data(host) = place {
                    self.write_host(host, &part(&range)).await?;
                    continue;
                }
                // Parts of clusters at both ends, whole ones between.
                let first = range.end.min(range.start.next_multiple_of(size));
                let last = first.max(range.end / size * size);
                for range in [range.start..first, first..last, last..range.end] {
                    if range.is_empty() {
                        continue;
                    }
                    let guest = range.start / size;
                    let count = range.end.div_ceil(size) - guest;
                    let host = self.map.take(count);
                    new.extend((0..count).map(|it| (guest + it, host + it)));
                    unsure |= !self.is_blank(place) || host * size < self.len.get();
                    if range.start % size == 0 && range.end % size == 0 {
                        self.write_host(host * size, &part(&range)).await?;
                    } else {
                        let mut whole = Buf::new(size as usize);
                        self.fill(guest * size, &mut whole).await?;
                        let from = (range.start % size) as usize;
                        let new = part(&range);
                        whole[from..from + new.len()].copy_from_slice(&new);
                        self.write_host(host * size, &whole).await?;
                    }
                }
            }
            match unsure {
                true => self.settling.run(|| self.file.flush()).await,
                false => Ok(()),
            }
        };
        if let Err(error) = written.await {
            self.map.give(new.into_iter().map(|(_, host)| host));
            return Err(error);
        }
        let old = new.iter().filter_map(|(guest, _)| self.map.owned(*guest));
        let old: Vec<u64> = old.collect();
        let entry = |host| map::entry(Place::Data(host * size));
        let new: Vec<_> = (new.iter().map(|(guest, host)| (*guest, entry(*host)))).collect();
        self.set(&new).await?;
        self.given_up.borrow_mut().extend(old);
        Ok(())
    }

    /// Whether a cluster reads as zeroes, as one does that is new at the end of the file.
    fn is_blank(&self, place: Place) -> bool {
        match place {
            Place::Zero => true,
            Place::Backing => self.backing.is_none(),
            _ => false,
        }
    }

    /// Makes the whole clusters in `at..at + len` read as zeroes, and gives up what they had; and
    /// gives the range that these are. The last cluster of the disk may be in part.
    async fn clear(&self, at: u64, len: u64) -> io::Result<Range<u64>> {
        let size = self.cluster();
        let end = match at + len {
            end if end >= self.info().size => end.next_multiple_of(size),
            end => end / size * size,
        };
        let first = at.next_multiple_of(size);
        if first >= end {
            return Ok(first..first);
        }
        let _alone = self.ranges.lock(first..end).await;
        let place = match self.backing {
            Some(_) => Place::Zero,
            None => Place::Backing,
        };
        // A table's worth at a time: `set` writes piece by piece.
        let new: Vec<_> = (first / size..end / size)
            .filter(|cluster| {
                let zero = matches!(self.map.get(*cluster), Place::Zero);
                let none = self.map.get(*cluster) == place;
                self.map.owned(*cluster).is_some() || !(zero || none)
            })
            .map(|cluster| (cluster, map::entry(place)))
            .collect();
        if new.is_empty() {
            return Ok(first..end);
        }
        self.begin().await?;
        let old = new
            .iter()
            .filter_map(|(cluster, _)| self.map.owned(*cluster));
        let old: Vec<u64> = old.collect();
        self.set(&new).await?;
        self.given_up.borrow_mut().extend(old);
        Ok(first..end)
    }
}

impl<F: Disk> Disk for Qcow2<F> {
    fn info(&self) -> Info {
        Info {
            physical_block_size: 4096,
            read_only: self.read_only,
            discard: !self.read_only,
            discard_granularity: self.cluster() as u32,
            ..Info::new(self.header.size / 512 * 512)
        }
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let range = self.around(at, buf.len() as u64);
        let _shared = self.ranges.share(range).await;
        self.fill(at, buf).await
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        let range = self.around(at, buf.len() as u64);
        let direct = {
            let _shared = self.ranges.share(range.clone()).await;
            let pieces = self.pieces(at, buf.len() as u64);
            let direct = pieces
                .iter()
                .all(|(_, place)| matches!(place, Place::Data(_)));
            for (range, place) in pieces {
                if let (true, Place::Data(host)) = (direct, place) {
                    let part = (range.start - at) as usize..(range.end - at) as usize;
                    self.write_host(host, &buf.part(part)).await?;
                }
            }
            direct
        };
        if !direct {
            let _alone = self.ranges.lock(range).await;
            self.write_new(at, buf).await?;
        }
        match fua {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&self) -> io::Result<()> {
        let given_up = self.given_up.take();
        if let Err(error) = self.file.flush().await {
            self.given_up.borrow_mut().extend(given_up);
            return Err(error);
        }
        let size = self.cluster();
        for cluster in given_up {
            // It is free whether the file system takes the space back or not.
            let _ = self.file.discard(cluster * size, size).await;
            self.map.give([cluster]);
        }
        Ok(())
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.clear(at, len).await.map(drop)
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        let end = at + len;
        let cleared = self.clear(at, len).await?;
        let edges = match cleared.is_empty() {
            true => [at..end, end..end],
            false => [at..cleared.start, cleared.end.min(end)..end],
        };
        for edge in edges {
            let mut at = edge.start;
            while at < edge.end {
                let buf = Buf::zeroed((edge.end - at).min(1 << 20) as usize);
                self.write(at, &buf, false).await?;
                at += buf.len() as u64;
            }
        }
        match fua {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn close(&self) -> io::Result<()> {
        if let Some(backing) = &self.backing {
            let _ = backing.close().await;
        }
        let mut dirty = self.dirty.lock().await;
        if self.read_only || !*dirty {
            return Ok(());
        }
        self.flush().await?;
        self.write_counts().await?;
        self.mark(self.header.incompatible & !DIRTY).await?;
        *dirty = false;
        Ok(())
    }
}
