// SPDX-License-Identifier: GPL-2.0
//! `compress`: a disk whose clusters are compressed below.
//!
//! - `compress/store.rs`: where clusters are below, what is free, and what is on the disk of it
//!
//! The format, all numbers little-endian:
//!
//! - The first block of 4096 bytes is the header: the bytes `TAPZSTD1`, then the size of the disk
//!   (u64), the size of a cluster (u32), and zeroes.
//! - The table follows: a u64 for each cluster, in whole blocks of 4096 bytes.
//! - The rest is data, in units of 512 bytes. An entry of the table is 0 for a cluster of zeroes;
//!   else its lower 48 bits are the number of the unit where the cluster begins, counted from the
//!   start of the disk below, bits 48 to 62 are the number of units less one, and bit 63 is set if the
//!   cluster is as it is, not compressed.
//! - A compressed cluster is one frame of zstd; what follows in its last unit has no meaning.
//!
//! A cluster is never written over: its new content goes to free units, then its entry changes.
//! An entry, which lies in one sector, is thus the old one or the new one after a power cut, and
//! units that were given up are used again only after a flush. There is nothing else to keep right.

mod store;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use store::{Extent, Store};
use tap::rt::Ranges;
use tap::{AnyDisk, Buf, Disk, Extension, Info, Opt, Options};
use zstd::bulk::{Compressor, Decompressor};

/// So many clusters are kept as they are uncompressed.
const KEPT: usize = 16;

/// A disk whose clusters are compressed.
pub struct Compress {
    below: AnyDisk,
    store: Store,
    ranges: Ranges,
    press: RefCell<Compressor<'static>>,
    expand: RefCell<Decompressor<'static>>,
    /// The latest, with where they are below, which changes whenever they do.
    kept: RefCell<VecDeque<(Extent, Rc<Buf>)>>,
}

impl Compress {
    fn cluster(&self) -> u64 {
        self.store.cluster
    }

    /// The clusters that have a byte of `at..at + len`, each with its part of the range.
    fn parts(&self, at: u64, len: u64) -> impl Iterator<Item = (u64, u64, u64)> {
        let (size, end) = (self.cluster(), at + len);
        (at / size..end.div_ceil(size)).map(move |cluster| {
            let from = at.max(cluster * size);
            (cluster, from, end.min((cluster + 1) * size))
        })
    }

    /// A cluster's content; `None` is zeroes.
    async fn load(&self, cluster: u64) -> io::Result<Option<Rc<Buf>>> {
        let Some(extent) = self.store.get(cluster) else {
            return Ok(None);
        };
        let known = |kept: &VecDeque<(Extent, Rc<Buf>)>| {
            let found = kept.iter().find(|(of, _)| *of == extent);
            found.map(|(_, content)| content.clone())
        };
        if let Some(content) = known(&self.kept.borrow()) {
            return Ok(Some(content));
        }
        let mut raw = Buf::new(extent.bytes() as usize);
        self.below.read(extent.at(), &mut raw).await?;
        let content = match extent.plain {
            true => raw,
            false => {
                let mut content = Buf::new(self.cluster() as usize);
                // What follows the frame is no part of it.
                let frame = zstd::zstd_safe::find_frame_compressed_size(&raw);
                let frame = frame.ok().and_then(|len| raw.get(..len));
                let len = frame.and_then(|frame| {
                    let mut expand = self.expand.borrow_mut();
                    expand.decompress_to_buffer(frame, &mut content[..]).ok()
                });
                if len != Some(content.len()) {
                    let what = format!("compress: cluster {cluster} is damaged");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                content
            }
        };
        let content = Rc::new(content);
        self.keep(extent, content.clone());
        Ok(Some(content))
    }

    fn keep(&self, extent: Extent, content: Rc<Buf>) {
        let mut kept = self.kept.borrow_mut();
        kept.truncate(KEPT - 1);
        kept.push_front((extent, content));
    }

    /// Writes a cluster; the caller has it alone.
    async fn store(&self, cluster: u64, content: Buf) -> io::Result<()> {
        if content.iter().all(|byte| *byte == 0) {
            return self.store.set(&self.below, cluster, None).await;
        }
        let size = content.len();
        // Compressed it has to be a unit less at least, or it is not worth the time of reads.
        let mut raw = Buf::new(size);
        let room = size - store::UNIT as usize;
        let pressed = {
            let mut press = self.press.borrow_mut();
            press.compress_to_buffer(&content[..], &mut raw[..room])
        };
        let plain = pressed.is_err();
        let exact = pressed.unwrap_or(size);
        let len = exact.next_multiple_of(store::UNIT as usize);
        raw[exact..len].fill(0);
        let units = len as u64 / store::UNIT;
        let extent = self.store.take(&self.below, units, plain).await?;
        let written = match plain {
            true => self.below.write(extent.at(), &content, false).await,
            false => self.below.write(extent.at(), &raw.part(..len), false).await,
        };
        let settled = match written {
            Ok(()) => self.store.settle(&self.below).await,
            error => error,
        };
        if let Err(error) = settled {
            self.store.give(extent);
            return Err(error);
        }
        self.keep(extent, Rc::new(content));
        self.store.set(&self.below, cluster, Some(extent)).await
    }
}

impl Disk for Compress {
    fn below(&self) -> Option<&AnyDisk> {
        Some(&self.below)
    }

    fn info(&self) -> Info {
        Info {
            size: self.store.size,
            physical_block_size: 4096,
            read_only: self.below.info().read_only,
            discard: !self.below.info().read_only,
            discard_granularity: self.cluster() as u32,
            ..Info::new(self.store.size)
        }
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        let len = buf.len() as u64;
        let _shared = self.ranges.share(at..at + len).await;
        for (cluster, from, end) in self.parts(at, len) {
            let target = (from - at) as usize..(end - at) as usize;
            match self.load(cluster).await? {
                None => buf[target].fill(0),
                Some(content) => {
                    let from = (from % self.cluster()) as usize;
                    let len = target.len();
                    buf[target].copy_from_slice(&content[from..from + len]);
                }
            }
        }
        Ok(())
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        for (cluster, from, end) in self.parts(at, buf.len() as u64) {
            let size = self.cluster();
            let _alone = self.ranges.lock(cluster * size..(cluster + 1) * size).await;
            let new = &buf[(from - at) as usize..(end - at) as usize];
            let mut content = match new.len() as u64 == size {
                true => Buf::new(size as usize),
                false => match self.load(cluster).await? {
                    None => Buf::zeroed(size as usize),
                    Some(old) => Buf::copy_of(&old),
                },
            };
            content[(from % size) as usize..][..new.len()].copy_from_slice(new);
            self.store(cluster, content).await?;
        }
        match fua {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&self) -> io::Result<()> {
        self.store.flush(&self.below).await
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        for (cluster, from, end) in self.parts(at, len) {
            let size = self.cluster();
            if end - from == size && self.store.get(cluster).is_some() {
                let _alone = self.ranges.lock(from..end).await;
                self.store.set(&self.below, cluster, None).await?;
            }
        }
        Ok(())
    }

    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        for (cluster, from, end) in self.parts(at, len) {
            if end - from == self.cluster() {
                let _alone = self.ranges.lock(from..end).await;
                if self.store.get(cluster).is_some() {
                    self.store.set(&self.below, cluster, None).await?;
                }
            } else {
                let zeroes = Buf::zeroed((end - from) as usize);
                self.write(from, &zeroes, false).await?;
            }
        }
        match fua {
            true => self.flush().await,
            false => Ok(()),
        }
    }
}

impl Extension for Compress {
    const NAME: &str = "compress";
    const HELP: &str = "a disk whose clusters are compressed on the disk below, by zstd\n\n\
        Small writes cost a multiple: see Documentation/extensions/compress.md.";
    const OPTIONS: &[Opt] = &[
        Opt::may(
            "create",
            "the size of the disk to make, if the one below is empty",
        ),
        Opt::or(
            "cluster",
            "64k",
            "how much is compressed at once, for create: 4k to 1M",
        ),
        Opt::or("level", "1", "from 1, fast, to 19, small"),
    ];
    const FILTER: bool = true;

    async fn open(options: &Options) -> io::Result<Self> {
        let below = options.below()?;
        let level = options.number("level")?;
        if !(1..=19).contains(&level) {
            return Err(options.wrong("level", "level is from 1 to 19"));
        }
        if options.get("create").is_some() {
            let (size, cluster) = (options.bytes("create")?, options.bytes("cluster")?);
            if !cluster.is_power_of_two() || !(4096..=1 << 20).contains(&cluster) {
                return Err(options.wrong("cluster", "cluster is 4k, 8k … 1M"));
            }
            if size == 0 || size % 4096 != 0 {
                return Err(options.wrong("create", "the size is a multiple of 4k"));
            }
            Store::create(&below, size, cluster).await?;
        }
        Ok(Self {
            store: Store::open(&below).await?,
            below,
            ranges: Ranges::new(),
            press: RefCell::new(Compressor::new(level as i32)?),
            expand: RefCell::new(Decompressor::new()?),
            kept: RefCell::default(),
        })
    }
}
