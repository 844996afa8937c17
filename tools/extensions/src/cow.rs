// SPDX-License-Identifier: GPL-2.0
//! `cow`: a disk whose changes go to a file of their own, and leave the disk below as it is.
//!
//! - `cow/header.rs`: the first block of that file, the delta
//! - `cow/map.rs`: which clusters are in the delta
//! - `cow/delta.rs`: the delta as a whole, and its order of writes
//! - `cow/live.rs`: what of the map is not in the delta yet
//! - `cow/commit.rs`: [`commit`], which writes the changes into the base, and [`changes`]

mod commit;
mod delta;
mod header;
mod live;
mod map;
#[cfg(test)]
mod tests;

pub use commit::{changes, commit, Changes};

use crate::common::Data;
use delta::{open_path, Delta, Make};
use header::Header;
use std::future::pending;
use std::io;
use std::ops::Range;
use tap::{rt, AnyDisk, Buf, Disk, Extension, Info, Opt, Options};

/// A disk, and what was written to it since, apart.
pub struct Cow {
    base: AnyDisk,
    delta: Delta,
    /// Clusters that are being copied.
    copying: rt::Ranges,
}

impl Cow {
    /// # Errors
    /// If the delta is not one of this base's.
    fn new(base: AnyDisk, delta: Delta) -> io::Result<Self> {
        check_base(&base.info(), &delta.header)?;
        Ok(Self {
            base,
            delta,
            copying: rt::Ranges::new(),
        })
    }

    fn clusters(&self, at: u64, len: u64) -> Range<u64> {
        let cluster = u64::from(self.delta.header.cluster);
        at / cluster..(at + len).div_ceil(cluster)
    }

    /// Where byte `at` of the disk is in the delta.
    fn place(&self, at: u64) -> u64 {
        self.delta.header.data + at
    }

    /// The pieces of `at..at + len` that are all in the delta, or all in the base.
    fn pieces(&self, at: u64, len: u64) -> Vec<(Range<u64>, bool)> {
        let cluster = u64::from(self.delta.header.cluster);
        let map = self.delta.map.borrow();
        map.runs(self.clusters(at, len))
            .map(|(run, here)| {
                let start = at.max(run.start * cluster);
                (start..(at + len).min(run.end * cluster), here)
            })
            .collect()
    }

    async fn put(&self, at: u64, data: Data<'_>, fua: bool) -> io::Result<()> {
        data.put(&self.delta.file, self.place(at), fua).await
    }

    async fn store(&self, at: u64, data: Data<'_>, fua: bool) -> io::Result<()> {
        self.delta.usable()?;
        let clusters = self.clusters(at, data.len());
        let here = self.delta.map.borrow().all(clusters.clone());
        if here && (!fua || self.delta.is_stable(clusters.clone())) {
            return self.put(at, data, fua).await;
        }
        match here {
            true => self.put(at, data, false).await?,
            false => self.copy(at, data, clusters).await?,
        }
        match fua {
            true => self.delta.flush().await,
            false => Ok(()),
        }
    }

    /// Writes `data`, with what else there is in the first and last of `clusters`, which are not
    /// all in the delta.
    async fn copy(&self, at: u64, data: Data<'_>, clusters: Range<u64>) -> io::Result<()> {
        let _copying = self.copying.lock(clusters.clone()).await;
        let header = &self.delta.header;
        let (cluster, end) = (u64::from(header.cluster), at + data.len());
        let first_is_here = self.delta.map.borrow().get(clusters.start);
        let last_is_here = self.delta.map.borrow().get(clusters.end - 1);
        let head = match first_is_here {
            true => at..at,
            false => clusters.start * cluster..at,
        };
        let tail = match last_is_here {
            true => end..end,
            false => end..(clusters.end * cluster).min(header.size),
        };
        let fill = rt::join(self.fill(head), self.fill(tail));
        let ((head, tail), put) = rt::join(fill, self.put(at, data, false)).await;
        put.and(head).and(tail)?;
        self.delta.add(clusters).await
    }

    /// Copies `range` from the base.
    async fn fill(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut buf = Buf::new((range.end - range.start) as usize);
        self.base.read(range.start, &mut buf).await?;
        self.delta
            .file
            .write(self.place(range.start), &buf, false)
            .await
    }
}

fn check_base(base: &Info, header: &Header) -> io::Result<()> {
    let (size, old) = (base.size, header.size);
    if size < old {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("cow: the base has lost its end: it has {size} bytes, {old} when the delta was made"),
        ));
    }
    if size > old {
        return Err(io::Error::other(format!(
            "cow: the base has {size} bytes, {old} when the delta was made: the size of a disk with \
             a delta cannot change; commit the delta first"
        )));
    }
    match base.block_size > header.block {
        true => Err(io::Error::other(format!(
            "cow: the base has blocks of {} bytes, {} when the delta was made",
            base.block_size, header.block
        ))),
        false => Ok(()),
    }
}

impl Disk for Cow {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.base)
    }

    fn info(&self) -> Info {
        let header = &self.delta.header;
        let (base, file) = (self.base.info(), self.delta.file.info());
        let physical = base.physical_block_size.max(file.physical_block_size);
        Info {
            size: header.size,
            block_size: header.block,
            physical_block_size: physical.max(header.cluster.min(4096)),
            read_only: false,
            discard: file.discard,
            discard_granularity: header.cluster,
        }
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let (run, here) = {
            let clusters = self.clusters(at, buf.len() as u64);
            let (run, here) = self.delta.map.borrow().run(clusters.clone());
            (run == clusters, here)
        };
        match (run, here) {
            (true, true) => return self.delta.file.read(self.place(at), buf).await,
            (true, false) => return self.base.read(at, buf).await,
            _ => (),
        }
        let mut rest = std::mem::take(buf);
        let mut pieces = Vec::new();
        for (range, here) in self.pieces(at, rest.len() as u64) {
            let next = rest.split_off((range.end - range.start) as usize);
            pieces.push((range, here, rest));
            rest = next;
        }
        let reads = pieces
            .into_iter()
            .map(|(range, here, mut piece)| async move {
                let len = piece.len();
                let done = match here {
                    true => {
                        self.delta
                            .file
                            .read(self.place(range.start), &mut piece)
                            .await
                    }
                    false => self.base.read(range.start, &mut piece).await,
                };
                (done, piece, len)
            });
        let mut result = Ok(());
        let mut whole = true;
        for (done, piece, len) in rt::join_all(reads).await {
            result = result.and(done);
            // A disk may keep the memory of a read that has failed.
            whole &= piece.len() == len;
            if whole {
                buf.unsplit(piece);
            }
        }
        result
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        self.store(at, Data::Bytes(buf), fua).await
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        self.store(at, Data::Zeroes(len), fua).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.delta.flush().await
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.delta.usable()?;
        for (range, here) in self.pieces(at, len) {
            if here {
                let len = range.end - range.start;
                self.delta
                    .file
                    .discard(self.place(range.start), len)
                    .await?;
            }
        }
        Ok(())
    }

    async fn resized(&self) {
        pending().await
    }

    async fn close(&self) -> io::Result<()> {
        let flushed = self.delta.settle().await;
        flushed.and(self.delta.file.close().await)
    }
}

impl Extension for Cow {
    const NAME: &str = "cow";
    const HELP: &str = "writes to a file of its own, the delta, and leaves the disk below as it is

The disk below is the base: what is behind it in the chain, or base=. It must not change as long as
there is a delta. The delta is made if it is not there: a sparse file that grows to the size of the
disk at most. Its format is described in Documentation/extensions/cow.md.";
    const OPTIONS: &[Opt] = &[
        Opt::must("delta", "path of the file with the changes"),
        Opt::below(
            "base",
            "the disk below, if it is not what follows: a path, or a chain",
        ),
        Opt::or(
            "new",
            "auto",
            "auto: make the delta if it is not there; yes: make it anew, over what is there; no",
        ),
        Opt::may(
            "cluster",
            "bytes of which the delta has all or nothing, when it is made [4k up to 1 TiB]",
        ),
    ];
    const FILTER: bool = true;

    async fn open(options: &Options) -> io::Result<Self> {
        let base = options.below()?;
        let make = match options.text("new")? {
            "auto" => Make::Auto,
            "yes" => Make::Yes,
            "no" => Make::No,
            _ => return Err(options.wrong("new", "new is auto, yes or no")),
        };
        let cluster = options.get("cluster").map(|_| options.bytes("cluster"));
        let (cluster, info) = (cluster.transpose()?, base.info());
        let header = || {
            let header = Header::new(info.size, info.block_size, cluster);
            header.map_err(|what| options.wrong("cluster", what))
        };
        let delta = open_path(&options.path("delta")?, make, header).await?;
        Cow::new(base, delta)
    }
}
