// SPDX-License-Identifier: GPL-2.0
//! Where each cluster is on the disk below, and what of that is free.
//!
//! The table is in memory; a changed piece of it is written before the write returns, so that the
//! end of this program loses nothing.

use crate::common::Share;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use tap::rt::{Lock, Ranges};
use tap::{AnyDisk, Buf};

const MAGIC: &[u8; 8] = b"TAPZSTD1";

/// Bytes in which space below is counted.
pub const UNIT: u64 = 512;

/// Header and table are read and written in so many bytes.
const BLOCK: u64 = 4096;
const ENTRIES: usize = (BLOCK / 8) as usize;

const PLAIN: u64 = 1 << 63;
const FIRST: u64 = (1 << 48) - 1;

/// Where a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    first: u64,
    units: u64,
    pub plain: bool,
}

impl Extent {
    /// Its first byte.
    pub fn at(&self) -> u64 {
        self.first * UNIT
    }

    pub fn bytes(&self) -> u64 {
        self.units * UNIT
    }

    fn decode(entry: u64) -> Option<Self> {
        (entry != 0).then_some(Self {
            first: entry & FIRST,
            units: (entry >> 48 & 0x7fff) + 1,
            plain: entry & PLAIN != 0,
        })
    }

    fn encode(&self) -> u64 {
        let plain = if self.plain { PLAIN } else { 0 };
        plain | (self.units - 1) << 48 | self.first
    }
}

/// The table, and what is free.
pub struct Store {
    pub size: u64,
    pub cluster: u64,
    table: RefCell<Vec<u64>>,
    pieces: Ranges,
    /// First unit and number of units of each piece of free space; no two touch.
    free: RefCell<BTreeMap<u64, u64>>,
    /// Where to look for space next: what is written one after the other is read so, too.
    next: Cell<u64>,
    settling: Share,
    /// One flush at a time.
    flushing: Lock<()>,
    /// Given up: free after a flush.
    given_up: RefCell<Vec<Extent>>,
}

fn wrong(what: impl Into<String>) -> io::Error {
    let what = format!("compress: {}", what.into());
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Bytes before the data.
fn data(size: u64, cluster: u64) -> u64 {
    BLOCK + (size.div_ceil(cluster) * 8).next_multiple_of(BLOCK)
}

impl Store {
    /// Makes an empty disk, unless there is one.
    pub async fn create(below: &AnyDisk, size: u64, cluster: u64) -> io::Result<()> {
        let space = below.info().size;
        if space < BLOCK {
            return Err(wrong("the disk below is too small"));
        }
        let mut header = Buf::new(BLOCK as usize);
        below.read(0, &mut header).await?;
        if header.starts_with(MAGIC) {
            return Ok(());
        }
        if header.iter().any(|byte| *byte != 0) {
            return Err(wrong(
                "the disk below has something else: its first block is not empty",
            ));
        }
        let data = data(size, cluster);
        if data + cluster > space {
            return Err(wrong("the disk below is too small"));
        }
        below.write_zeroes(BLOCK, data - BLOCK, false).await?;
        below.flush().await?;
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&size.to_le_bytes());
        header[16..20].copy_from_slice(&(cluster as u32).to_le_bytes());
        below.write(0, &header, true).await
    }

    /// Reads the table.
    pub async fn open(below: &AnyDisk) -> io::Result<Self> {
        let space = below.info().size / UNIT;
        if space * UNIT < BLOCK {
            return Err(wrong("there is none on the disk below"));
        }
        let mut header = Buf::new(BLOCK as usize);
        below.read(0, &mut header).await?;
        if !header.starts_with(MAGIC) {
            return Err(wrong(
                "there is none on the disk below: create=SIZE makes one",
            ));
        }
        let size = header[8..]
            .first_chunk()
            .map_or(0, |it| u64::from_le_bytes(*it));
        let cluster = header[16..]
            .first_chunk()
            .map_or(0, |it| u32::from_le_bytes(*it));
        let cluster = u64::from(cluster);
        let fits = cluster.is_power_of_two() && (4096..=1 << 20).contains(&cluster);
        // 2^34 clusters would be a table of 128 GiB.
        if !fits
            || size % 512 != 0
            || size / cluster >= 1 << 34
            || data(size, cluster) > space * UNIT
        {
            return Err(wrong("the header is damaged"));
        }
        let (first, mut table) = (data(size, cluster), Vec::new());
        let mut at = BLOCK;
        while at < first {
            let mut buf = Buf::new((first - at).min(1 << 20) as usize);
            below.read(at, &mut buf).await?;
            let entries = buf.chunks_exact(8).filter_map(|bytes| bytes.first_chunk());
            table.extend(entries.map(|bytes| u64::from_le_bytes(*bytes)));
            at += buf.len() as u64;
        }
        let mut used: Vec<_> = table.iter().filter_map(|it| Extent::decode(*it)).collect();
        used.sort_unstable_by_key(|extent| extent.first);
        let (mut free, mut end) = (BTreeMap::new(), first / UNIT);
        for extent in used {
            let fits = match extent.plain {
                true => extent.bytes() == cluster,
                false => extent.bytes() <= cluster,
            };
            if !fits || extent.first < end || extent.first + extent.units > space {
                return Err(wrong("the table is damaged"));
            }
            if extent.first > end {
                free.insert(end, extent.first - end);
            }
            end = extent.first + extent.units;
        }
        if space > end {
            free.insert(end, space - end);
        }
        Ok(Self {
            size,
            cluster,
            table: RefCell::new(table),
            pieces: Ranges::new(),
            free: RefCell::new(free),
            next: Cell::new(0),
            settling: Share::new(),
            flushing: Lock::default(),
            given_up: RefCell::default(),
        })
    }

    /// Where a cluster is; `None`: it is all zeroes.
    pub fn get(&self, cluster: u64) -> Option<Extent> {
        let table = self.table.borrow();
        table
            .get(cluster as usize)
            .copied()
            .and_then(Extent::decode)
    }

    /// Space for a cluster; if there is none, that which was given up.
    pub async fn take(&self, below: &AnyDisk, units: u64, plain: bool) -> io::Result<Extent> {
        match self.find(units, plain) {
            Err(_) => {
                self.flush(below).await?;
                self.find(units, plain)
            }
            found => found,
        }
    }

    fn find(&self, units: u64, plain: bool) -> io::Result<Extent> {
        let mut free = self.free.borrow_mut();
        let enough = |(_, room): &(&u64, &u64)| **room >= units;
        let behind = free.range(self.next.get()..).find(enough);
        let found = behind.or_else(|| free.range(..).find(enough));
        let Some((first, room)) = found.map(|(first, room)| (*first, *room)) else {
            let what = "compress: the disk below is full";
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        };
        free.remove(&first);
        if room > units {
            free.insert(first + units, room - units);
        }
        self.next.set(first + units);
        Ok(Extent {
            first,
            units,
            plain,
        })
    }

    /// Space that nothing points to.
    pub fn give(&self, extent: Extent) {
        let mut free = self.free.borrow_mut();
        let (mut first, mut units) = (extent.first, extent.units);
        if let Some((before, room)) = free.range(..first).next_back() {
            if before + room == first {
                (first, units) = (*before, units + room);
            }
        }
        if let Some(room) = free.remove(&(extent.first + extent.units)) {
            units += room;
        }
        free.insert(first, units);
    }

    /// What was written below is stable: an entry may point at it. Who waits at the same time shares it.
    pub async fn settle(&self, below: &AnyDisk) -> io::Result<()> {
        self.settling.run(|| below.flush()).await
    }

    /// Changes an entry, in memory and below. The caller has the cluster alone.
    pub async fn set(
        &self,
        below: &AnyDisk,
        cluster: u64,
        extent: Option<Extent>,
    ) -> io::Result<()> {
        let old = self.get(cluster);
        if let Some(entry) = self.table.borrow_mut().get_mut(cluster as usize) {
            *entry = extent.map_or(0, |extent| extent.encode());
        }
        let piece = cluster / ENTRIES as u64;
        let at = BLOCK + piece * BLOCK;
        {
            // Else an older state could be written after a newer one.
            let _alone = self.pieces.lock(at..at + BLOCK).await;
            let mut buf = Buf::new(BLOCK as usize);
            let from = piece as usize * ENTRIES;
            let table = self.table.borrow()[from..from + ENTRIES].to_vec();
            for (bytes, entry) in buf.chunks_exact_mut(8).zip(table) {
                bytes.copy_from_slice(&entry.to_le_bytes());
            }
            below.write(at, &buf, false).await?;
        }
        self.given_up.borrow_mut().extend(old);
        Ok(())
    }

    /// All that was written is stable; space that was given up before is free.
    pub async fn flush(&self, below: &AnyDisk) -> io::Result<()> {
        // Who needs space waits for what another one makes.
        let _one = self.flushing.lock().await;
        let given_up = self.given_up.take();
        if let Err(error) = below.flush().await {
            self.given_up.borrow_mut().extend(given_up);
            return Err(error);
        }
        let discard = below.info().discard;
        for extent in given_up {
            if discard {
                let _ = below.discard(extent.at(), extent.bytes()).await;
            }
            self.give(extent);
        }
        Ok(())
    }
}
