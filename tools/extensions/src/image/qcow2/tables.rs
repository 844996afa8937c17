// SPDX-License-Identifier: GPL-2.0
//! What an image's file has besides data: tables, the header's mark, the reference counts.

use super::super::header::{AUTOCLEAR_AT, DIRTY, INCOMPATIBLE_AT};
use super::super::map::{self, Map, Place};
use super::super::wrong;
use super::file::{bytes, read};
use super::Qcow2;
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use tap::{Buf, Disk};

/// Of a table, so many bytes are written at once, or a cluster if that is less.
const PIECE: u64 = 4096;

impl<F: Disk> Qcow2<F> {
    /// Sets entries, of clusters in ascending order, in memory and in the file.
    pub(super) async fn set(&self, new: &[(u64, u64)]) -> io::Result<()> {
        let entries = self.map.entries();
        for new in new.chunk_by(|one, other| one.0 / entries == other.0 / entries) {
            let index = (new[0].0 / entries) as usize;
            let there = |map: &Map| map.tables.borrow().get(index).is_some_and(Option::is_some);
            if !there(&self.map) {
                let _grow = self.grow.lock().await;
                if !there(&self.map) {
                    self.add_table(index, new).await?;
                    continue;
                }
            }
            let mut pieces = BTreeSet::new();
            if let Some(Some(table)) = self.map.tables.borrow_mut().get_mut(index) {
                for (cluster, entry) in new {
                    let at = cluster % entries;
                    table[at as usize] = *entry;
                    pieces.insert(at * 8 / self.piece());
                }
            }
            let table = Map::table_at(self.map.l1.borrow()[index]);
            for piece in pieces {
                let tables = |map: &Map, range: Range<usize>| {
                    let tables = map.tables.borrow();
                    tables[index]
                        .as_ref()
                        .map_or(Buf::default(), |table| bytes(&table[range]))
                };
                self.write_piece(table, piece, tables).await?;
            }
        }
        Ok(())
    }

    fn piece(&self) -> u64 {
        PIECE.min(self.cluster())
    }

    /// Writes a piece of a table at `table` as it is then.
    async fn write_piece(
        &self,
        table: u64,
        piece: u64,
        content: impl Fn(&Map, Range<usize>) -> Buf,
    ) -> io::Result<()> {
        let at = table + piece * self.piece();
        // Else an older state could be written after a newer one.
        let _alone = self.tables.lock(at..at + self.piece()).await;
        let entries = (self.piece() / 8) as usize;
        let first = piece as usize * entries;
        let buf = content(&self.map, first..first + entries);
        self.write_host(at, &buf).await
    }

    /// Adds a table with these entries; the caller has `grow`.
    async fn add_table(&self, index: usize, new: &[(u64, u64)]) -> io::Result<()> {
        let entries = self.map.entries();
        let mut table = vec![0; entries as usize];
        for (cluster, entry) in new {
            table[(cluster % entries) as usize] = *entry;
        }
        let at = self.map.take(1) * self.cluster();
        self.write_host(at, &bytes(&table)).await?;
        self.file.flush().await?;
        let known = map::entry(Place::Data(at));
        match self.map.l1.borrow_mut().get_mut(index) {
            Some(entry) => *entry = known,
            None => return Err(wrong("a cluster behind the end")),
        }
        let piece = index as u64 * 8 / self.piece();
        let written = self.write_piece(self.header.l1_at, piece, |map, range| {
            let l1 = map.l1.borrow();
            let mut piece = vec![0; range.len()];
            let have = &l1[range.start..range.end.min(l1.len())];
            piece[..have.len()].copy_from_slice(have);
            bytes(&piece)
        });
        // Nobody finds it before the file has it: what he put there would be nowhere.
        written.await?;
        self.map.tables.borrow_mut()[index] = Some(table.into());
        Ok(())
    }

    /// Before the first change: the header says that the counts are not right any more.
    pub(super) async fn begin(&self) -> io::Result<()> {
        let mut dirty = self.dirty.lock().await;
        if !*dirty {
            self.mark(self.header.incompatible | DIRTY).await?;
            *dirty = true;
        }
        Ok(())
    }

    pub(super) async fn mark(&self, incompatible: u64) -> io::Result<()> {
        let mut buf = Buf::new(self.piece() as usize);
        read(&self.file, self.len.get(), 0, &mut buf).await?;
        buf[INCOMPATIBLE_AT..][..8].copy_from_slice(&incompatible.to_be_bytes());
        // What others have added, and we do not know to keep right.
        buf[AUTOCLEAR_AT..][..8].fill(0);
        self.write_host(0, &buf).await?;
        self.file.flush().await
    }

    /// Writes down how often each cluster is used.
    pub(super) async fn write_counts(&self) -> io::Result<()> {
        let size = self.cluster();
        let each = size / 2;
        let mut blocks = self.blocks.borrow().clone();
        // Blocks are counted too, and may want another one.
        loop {
            let wanted = self.map.end().div_ceil(each) as usize;
            if wanted > blocks.len() {
                return Err(wrong(
                    "the table of reference counts is full: qemu-img check -r all",
                ));
            }
            match blocks[..wanted].iter_mut().find(|at| **at == 0) {
                Some(at) => *at = self.map.take(1) * size,
                None => break,
            }
        }
        let mut counts = self.map.count(&self.header, &blocks, self.len.get())?;
        counts.resize((self.map.end().div_ceil(each) * each) as usize, 0);
        for (at, counts) in blocks.iter().zip(counts.chunks(each as usize)) {
            let mut buf = Buf::zeroed(size as usize);
            for (bytes, count) in buf.chunks_exact_mut(2).zip(counts) {
                bytes.copy_from_slice(&count.to_be_bytes());
            }
            self.write_host(*at, &buf).await?;
        }
        // Blocks of clusters that there are no more.
        for at in blocks
            .iter()
            .skip(self.map.end().div_ceil(each) as usize)
            .filter(|at| **at != 0)
        {
            self.write_host(*at, &Buf::zeroed(size as usize)).await?;
        }
        self.write_host(self.header.table_at, &bytes(&blocks))
            .await?;
        *self.blocks.borrow_mut() = blocks;
        self.file.flush().await
    }
}
