// SPDX-License-Identifier: GPL-2.0
//! A log of all that is written, in the format of dm-log-writes.

use super::format::log_writes::{entry, superblock, FLUSH, MARK, SECTOR};
use super::out::write_all;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use tap::log::Log;
use tap::rt::Fd;
use tap::Buf;

/// The log. A write stands in it where it has returned, a flush where it came: so what a flush
/// covers is before it.
pub struct Writes {
    file: Fd,
    end: Cell<u64>,
    entries: Cell<u64>,
    /// Entries that have a place and are not written.
    open: RefCell<BTreeSet<u64>>,
    failed: Cell<bool>,
    log: Log,
}

/// A place for an entry.
pub struct Place {
    number: u64,
    at: u64,
}

impl Writes {
    /// In a new file.
    pub fn new(file: std::fs::File, log: Log) -> Self {
        Self {
            file: Rc::new(OwnedFd::from(file)),
            end: Cell::new(SECTOR),
            entries: Cell::new(0),
            open: RefCell::default(),
            failed: Cell::new(false),
            log,
        }
    }

    /// The next place, with room for `len` bytes of data.
    pub fn place(&self, len: u64) -> Place {
        let number = self.entries.replace(self.entries.get() + 1);
        self.open.borrow_mut().insert(number);
        let at = self.end.replace(self.end.get() + SECTOR + len);
        Place { number, at }
    }

    /// Writes an entry.
    pub async fn put(&self, place: Place, flags: u64, at: u64, len: u64, data: &[u8]) {
        let bytes = Buf::copy_of(&entry(flags, at, len, data));
        self.write(&bytes, place.at).await;
        self.open.borrow_mut().remove(&place.number);
    }

    /// What became of a flush. The log is complete up to here.
    pub async fn flushed(&self, place: Place, result: &io::Result<()>) {
        match result {
            Ok(()) => self.put(place, FLUSH, 0, 0, &[]).await,
            Err(_) => self.put(place, MARK, 0, 0, b"a flush that failed").await,
        }
        self.count().await;
    }

    /// Writes how many entries there are, before the first that is not written.
    pub async fn count(&self) {
        let first_open = self.open.borrow().first().copied();
        let count = first_open.unwrap_or(self.entries.get());
        self.write(&Buf::copy_of(&superblock(count)), 0).await;
    }

    async fn write(&self, bytes: &Buf, at: u64) {
        if self.failed.get() {
            return;
        }
        if let Err(error) = write_all(&self.file, bytes, at).await {
            self.failed.set(true);
            self.log.error("the log of writes ends here", &error);
        }
    }
}
