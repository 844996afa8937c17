// SPDX-License-Identifier: GPL-2.0
//! Where each cluster of the disk is in the file, and which of the file's are free.
//!
//! All tables are in memory. What the file says of reference counts is not used: while the image is
//! open they are what the tables say, and they are written down when it is closed.

use super::header::Header;
use super::wrong;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;

const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
const HOST: u64 = 0x00ff_ffff_ffff_fe00;

/// Clusters that may be behind the end of the file. A damaged entry must not cost much memory.
const BEHIND: u64 = 1 << 20;

/// The clusters of a disk.
pub struct Map {
    pub bits: u32,
    /// Positions of the tables in `tables`.
    pub l1: RefCell<Vec<u64>>,
    /// Of the second level.
    pub tables: RefCell<Vec<Option<Box<[u64]>>>>,
    free: RefCell<BTreeSet<u64>>,
    /// The first cluster behind all that are used.
    end: Cell<u64>,
}

/// Where a cluster of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file, at this byte.
    Data(u64),
    Zero,
    /// In the backing file; zeroes without one.
    Backing,
    /// Compressed, at this byte of the file; in at most so many.
    Compressed(u64, usize),
}

/// An entry of a table.
pub fn entry(place: Place) -> u64 {
    match place {
        Place::Data(at) => at | COPIED,
        Place::Zero => ZERO,
        Place::Backing | Place::Compressed(..) => 0,
    }
}

impl Map {
    /// `tables` has one for each entry of `l1` that is not 0.
    pub fn new(header: &Header, l1: Vec<u64>, tables: Vec<Option<Box<[u64]>>>) -> Self {
        Self {
            bits: header.bits,
            l1: RefCell::new(l1),
            tables: RefCell::new(tables),
            free: RefCell::default(),
            end: Cell::new(0),
        }
    }

    /// Where the table that an entry of the first level stands for is.
    pub fn table_at(l1: u64) -> u64 {
        l1 & HOST
    }

    /// Entries of a table.
    pub fn entries(&self) -> u64 {
        1 << (self.bits - 3)
    }

    fn place(&self, entry: u64) -> Place {
        if entry & COMPRESSED != 0 {
            let bits = 62 - (self.bits - 8);
            let at = entry & ((1 << bits) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> bits;
            let len = (sectors + 1) * 512 - at % 512;
            return Place::Compressed(at, len as usize);
        }
        match (entry & ZERO != 0, entry & HOST) {
            (true, _) => Place::Zero,
            (false, 0) => Place::Backing,
            (false, at) => Place::Data(at),
        }
    }

    /// Where a cluster of the disk is.
    pub fn get(&self, cluster: u64) -> Place {
        let (one, two) = (cluster / self.entries(), cluster % self.entries());
        let tables = self.tables.borrow();
        let table = tables.get(one as usize).and_then(Option::as_ref);
        let entry = table.and_then(|table| table.get(two as usize));
        self.place(entry.copied().unwrap_or(0))
    }

    /// The cluster of the file that belongs to an entry, also if it reads as zeroes.
    pub fn owned(&self, cluster: u64) -> Option<u64> {
        let (one, two) = (cluster / self.entries(), cluster % self.entries());
        let tables = self.tables.borrow();
        let table = tables.get(one as usize).and_then(Option::as_ref);
        let entry = *table?.get(two as usize)?;
        (entry & COMPRESSED == 0 && entry & HOST != 0).then_some((entry & HOST) >> self.bits)
    }

    /// How often each cluster of the file is used, by whatever is in it.
    ///
    /// # Errors
    /// If one is used for two things, or is far behind the end of a file of `file` bytes.
    pub fn count(&self, header: &Header, blocks: &[u64], file: u64) -> io::Result<Vec<u16>> {
        let mut counts: Vec<u16> = Vec::new();
        let size = 1u64 << self.bits;
        let mut add = |at: u64, len: u64, shared: bool| {
            if at % size != 0 && !shared || at >> 55 != 0 {
                return Err(wrong(format!("a cluster at {at}")));
            }
            for cluster in at / size..(at + len).div_ceil(size) {
                let index = cluster as usize;
                if index >= counts.len() {
                    if cluster > file / size + BEHIND {
                        return Err(wrong(format!("a cluster at {at}, behind the end")));
                    }
                    counts.resize(index + 1, 0);
                }
                if counts[index] > 0 && !shared {
                    let what = format!("two owners of byte {at}: qemu-img check");
                    return Err(wrong(what));
                }
                counts[index] = counts[index].saturating_add(1);
            }
            Ok(())
        };
        add(0, size, false)?;
        add(header.l1_at, (header.l1_entries as u64 * 8).max(1), false)?;
        add(header.table_at, header.table_clusters << self.bits, false)?;
        for block in blocks.iter().filter(|at| **at != 0) {
            add(*block, size, false)?;
        }
        for l1 in self.l1.borrow().iter().filter(|l1| **l1 != 0) {
            add(Self::table_at(*l1), size, false)?;
        }
        for entry in self.tables.borrow().iter().flatten().flatten() {
            if *entry & COMPRESSED == 0 {
                if *entry & HOST != 0 {
                    add(*entry & HOST, size, false)?;
                }
            } else if let Place::Compressed(at, len) = self.place(*entry) {
                add(at, len as u64, true)?;
            }
        }
        Ok(counts)
    }

    /// Learns which clusters are free, of a file of `len` bytes.
    pub fn find_free(&self, counts: &[u16], len: u64) {
        let free = (0u64..).zip(counts).filter(|(_, count)| **count == 0);
        *self.free.borrow_mut() = free.map(|(cluster, _)| cluster).collect();
        // What is behind the last used one is as good as free, but may not be all zeroes.
        let end = len.div_ceil(1 << self.bits);
        let used = counts.len() as u64;
        self.free.borrow_mut().extend(used..end);
        self.end.set(used.max(end));
    }

    pub fn end(&self) -> u64 {
        self.end.get()
    }

    /// Takes `count` clusters of the file, one behind the other.
    pub fn take(&self, count: u64) -> u64 {
        if count == 1 {
            if let Some(cluster) = self.free.borrow_mut().pop_first() {
                return cluster;
            }
        }
        self.end.replace(self.end.get() + count)
    }

    /// Gives clusters back.
    pub fn give(&self, clusters: impl IntoIterator<Item = u64>) {
        self.free.borrow_mut().extend(clusters);
    }
}
