// SPDX-License-Identifier: GPL-2.0
//! The file with what has changed: a header, a map, and the data at the same offsets as on the disk.

use super::header::{Header, BLOCK};
use super::live::{self, Live};
use super::map::Map;
use crate::common::{lock, make_file, Share};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use tap::{rt, AnyDisk, Buf, Raw};

/// An open delta.
///
/// A bit of the map is set in memory when its cluster is in the file, and in the file's map no
/// earlier than the cluster is stable there: a flush is first one of the data, then writes the map,
/// then is one of the map. So what a power cut leaves of the map points at nothing that is missing.
/// Until then `live` has it, for the next program.
pub struct Delta {
    /// The file.
    pub file: AnyDisk,
    /// What it is like.
    pub header: Header,
    /// What is in it.
    pub map: RefCell<Map>,
    name: String,
    flushing: Share,
    writing: Cell<bool>,
    failed: Cell<bool>,
    live: Option<Live>,
    /// Keeps other programs from it.
    _lock: Option<File>,
}

impl Delta {
    /// Makes a delta in `file`. The header is written last: before that it is none.
    ///
    /// # Errors
    /// The file's.
    pub async fn create(file: &AnyDisk, header: &Header) -> io::Result<()> {
        // Room for all of the map, so that no flush can find the disk full.
        let zeroes = Buf::zeroed((1 << 20).min(header.map_len as usize));
        let mut at = 0;
        while at < header.map_len {
            let part = zeroes.part(..(header.map_len - at).min(1 << 20) as usize);
            file.write(BLOCK + at, &part, false).await?;
            at += part.len() as u64;
        }
        file.flush().await?;
        file.write(0, &Buf::copy_of(&header.encode()), false)
            .await?;
        file.flush().await
    }

    /// Opens the delta in `file`, which messages call `name`.
    ///
    /// # Errors
    /// The file's, and that it is no delta, or a damaged one.
    pub async fn open(file: AnyDisk, name: &str) -> io::Result<Self> {
        let context = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let mut first = Buf::zeroed(BLOCK as usize);
        if file.info().size >= BLOCK {
            file.read(0, &mut first).await?;
        }
        let header = Header::decode(&first).map_err(context)?;
        if file.info().size < header.file_len() {
            let cut = format!("it has lost its end: it needs {} bytes", header.file_len());
            return Err(context(io::Error::new(io::ErrorKind::UnexpectedEof, cut)));
        }
        if file.info().block_size > header.block {
            let blocks = format!(
                "its blocks are of {} bytes, those of the disk of {}",
                file.info().block_size,
                header.block
            );
            return Err(context(io::Error::other(blocks)));
        }
        let mut bits = Vec::with_capacity(header.map_len as usize);
        while (bits.len() as u64) < header.map_len {
            let left = header.map_len - bits.len() as u64;
            let mut part = Buf::new(left.min(1 << 20) as usize);
            file.read(BLOCK + bits.len() as u64, &mut part).await?;
            bits.extend_from_slice(&part);
        }
        Ok(Self {
            file,
            header,
            map: RefCell::new(Map::new(bits, header.clusters())),
            name: name.into(),
            flushing: Share::new(),
            writing: Cell::new(false),
            failed: Cell::new(false),
            live: None,
            _lock: None,
        })
    }

    /// That it can be written to.
    ///
    /// # Errors
    /// That a flush has failed before: the kernel may have dropped what it could not write, which
    /// must not be believed to be there.
    pub fn usable(&self) -> io::Result<()> {
        match self.failed.get() {
            false => Ok(()),
            true => Err(io::Error::other(format!(
                "{}: a flush has failed, nothing more is written until it is opened again",
                self.name
            ))),
        }
    }

    /// Whether a write to `clusters` needs no change of the map to be found again.
    pub fn is_stable(&self, clusters: std::ops::Range<u64>) -> bool {
        let map = self.map.borrow();
        !self.writing.get() && map.all(clusters.clone()) && map.is_clean(clusters)
    }

    /// `clusters` are in the file now, and are found there even if this program is killed.
    ///
    /// # Errors
    /// Those of a flush, where there is no other way.
    pub async fn add(&self, clusters: std::ops::Range<u64>) -> io::Result<()> {
        self.map.borrow_mut().set(clusters.clone());
        let kept = match &self.live {
            None => true,
            Some(live) => {
                let map = self.map.borrow();
                let (at, bytes) = map.bytes(clusters);
                live.put(at, bytes)
            }
        };
        match kept {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    /// As [`flush`](Self::flush), and nothing of it is anywhere else any more.
    ///
    /// # Errors
    /// As above.
    pub async fn settle(&self) -> io::Result<()> {
        self.flush().await?;
        if let Some(live) = &self.live {
            live.remove();
        }
        Ok(())
    }

    /// All that was written is stable, with the map.
    ///
    /// # Errors
    /// The file's. If its flush has failed, it is not [`usable`](Self::usable) any more.
    pub async fn flush(&self) -> io::Result<()> {
        self.flushing.run(|| self.flush_now()).await
    }

    async fn flush_now(&self) -> io::Result<()> {
        self.usable()?;
        let dirty = Dirty::take(self);
        // Copies, of clusters that are written: others may come while this waits.
        let blocks: Vec<(u64, Buf)> = {
            let map = self.map.borrow();
            let block = |n: &u64| (BLOCK + n * BLOCK, Buf::copy_of(map.block(*n)));
            dirty.blocks.iter().map(block).collect()
        };
        self.flush_file().await?;
        if !blocks.is_empty() {
            let writes = blocks
                .iter()
                .map(|(at, block)| self.file.write(*at, block, false));
            for result in rt::join_all(writes).await {
                result?;
            }
            self.flush_file().await?;
        }
        dirty.done();
        Ok(())
    }

    async fn flush_file(&self) -> io::Result<()> {
        let done = self.file.flush().await;
        if done.is_err() {
            self.failed.set(true);
        }
        done
    }
}

/// Dirty blocks of the map that are being written, and are dirty again if that comes to nothing.
struct Dirty<'a> {
    delta: &'a Delta,
    blocks: BTreeSet<u64>,
}

impl<'a> Dirty<'a> {
    fn take(delta: &'a Delta) -> Self {
        delta.writing.set(true);
        let blocks = delta.map.borrow_mut().take_dirty();
        Self { delta, blocks }
    }
    fn done(mut self) {
        self.blocks.clear();
    }
}

impl Drop for Dirty<'_> {
    fn drop(&mut self) {
        self.delta.writing.set(false);
        self.delta.map.borrow_mut().mark_dirty(&self.blocks);
    }
}

/// Whether a delta is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// If there is no file, or an empty one.
    Auto,
    /// Always: what is in the file is lost.
    Yes,
    /// Never.
    No,
}

/// Opens the delta at `path`, or makes it, as `header` says.
///
/// # Errors
/// Those of the file system, and [`Delta::open`]'s.
pub async fn open_path(
    path: &Path,
    make: Make,
    header: impl FnOnce() -> io::Result<Header>,
) -> io::Result<Delta> {
    let there = fs::metadata(path);
    let is_device = there.as_ref().is_ok_and(|meta| !meta.is_file());
    let make = match (make, &there) {
        (Make::Auto, Err(error)) => error.kind() == io::ErrorKind::NotFound,
        (Make::Auto, Ok(meta)) => meta.is_file() && meta.len() == 0,
        (make, _) => make == Make::Yes,
    };
    if make {
        let header = header()?;
        // Of a file that was in its place, and of what is there now.
        live::forget(path);
        match is_device {
            true => Delta::create(&AnyDisk::new(Raw::open(path, false, false)?), &header).await?,
            false => {
                let fill = |file| async move { Delta::create(&file, &header).await };
                make_file(path, header.file_len(), fill).await?;
            }
        }
        live::forget(path);
    }
    let lock = lock(path).await?;
    let file = AnyDisk::new(Raw::open(path, false, true)?);
    let delta = Delta::open(file, &path.display().to_string()).await?;
    let (live, bits) = Live::open(&lock)?;
    delta.map.borrow_mut().add(&bits);
    Ok(Delta {
        live: Some(live),
        _lock: Some(lock),
        ..delta
    })
}
