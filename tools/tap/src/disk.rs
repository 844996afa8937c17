// SPDX-License-Identifier: GPL-2.0
//! [`Disk`], which an extension is, and [`AnyDisk`], which it is given.

use crate::Buf;
use std::future::{pending, Future};
use std::io;
use std::pin::Pin;
use std::rc::Rc;

/// What a disk is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Bytes; a multiple of `block_size`.
    pub size: u64,
    /// Bytes of a logical block: 512, 1024, 2048 or 4096. All requests are of whole blocks.
    pub block_size: u32,
    /// Bytes of a physical block, at least as many: requests of whole ones are faster.
    pub physical_block_size: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Discards are of use.
    pub discard: bool,
    /// Bytes of which a discard had best be a multiple.
    pub discard_granularity: u32,
}

impl Info {
    /// A disk of `size` bytes in blocks of 512, to be written, without discard.
    pub const fn new(size: u64) -> Self {
        Self {
            size,
            block_size: 512,
            physical_block_size: 512,
            read_only: false,
            discard: false,
            discard_granularity: 0,
        }
    }
}

/// A disk.
///
/// A disk at the end of a chain writes [`info`](Self::info), [`read`](Self::read),
/// [`write`](Self::write) and [`flush`](Self::flush). A filter writes [`below`](Self::below) and
/// what it changes: the rest goes to the disk below.
///
/// All is done by one thread, with many requests at the same time: state is in `Cell` and
/// `RefCell`, and whoever must not be disturbed over an `.await` has [`rt::Lock`](crate::rt::Lock)
/// and [`rt::Ranges`](crate::rt::Ranges).
///
/// What a caller promises, and the fronts see to:
/// - requests are of whole blocks, on the disk, and not empty; none but reads where
///   [`Info::read_only`]
/// - [`flush`](Self::flush) is for writes that have *returned* before
/// - requests that are under way at the same time may be done in any order, also if they overlap
/// - data is at most 1 MiB, but from filters that ask for more
///
/// A future may be dropped at any time, as by a timeout: the request is done then, in part, or not.
///
/// An error goes to the guest as an I/O error, whatever it is; it is logged with the chain's name.
#[allow(async_fn_in_trait)]
pub trait Disk: 'static {
    /// The disk that this one is a filter of.
    fn below(&self) -> Option<&AnyDisk> {
        None
    }

    /// What it is like. Only the size may change; see [`resized`](Self::resized).
    fn info(&self) -> Info {
        self.below().map_or(Info::new(0), AnyDisk::info)
    }

    /// Fills `buf` with what is at byte `at` of the disk.
    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        below(self.below())?.read(at, buf).await
    }

    /// Writes `buf` to byte `at`. With `fua` it is stable on return, even if the power goes.
    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        below(self.below())?.write(at, buf, fua).await
    }

    /// All writes that have returned are stable when this returns.
    async fn flush(&self) -> io::Result<()> {
        match self.below() {
            Some(below) => below.flush().await,
            None => Ok(()),
        }
    }

    /// Nobody needs the `len` bytes at `at` any more; they may read as anything from now on.
    ///
    /// By default it does nothing, in a filter too: only the author knows where the bytes are, and
    /// whether the disk below may lose them.
    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        let _ = (at, len);
        Ok(())
    }

    /// Writes `len` zeroes to byte `at`; `fua` as in [`write`](Self::write). By default with
    /// [`write`](Self::write), in a filter too.
    async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        let zeroes = Buf::zeroed(len.min(ZEROES) as usize);
        let end = at.saturating_add(len);
        let mut at = at;
        while at < end {
            let part = zeroes.part(..(end - at).min(ZEROES) as usize);
            self.write(at, &part, fua).await?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Returns when [`Info::size`] has changed since it was called.
    async fn resized(&self) {
        match self.below() {
            Some(below) => below.resized().await,
            None => pending().await,
        }
    }

    /// The end: requests have returned, and no other will come. What is written down at the end
    /// only is written now; the disk below is closed by the caller, after this one. It does not
    /// come if the program is killed.
    async fn close(&self) -> io::Result<()> {
        Ok(())
    }
}

/// So many zeroes are written at once.
const ZEROES: u64 = 1 << 20;

fn below(disk: Option<&AnyDisk>) -> io::Result<&AnyDisk> {
    disk.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "this disk cannot do that"))
}

/// Any [`Disk`]. Clones are the same disk. It has the methods of [`Disk`].
#[derive(Clone)]
pub struct AnyDisk(Rc<dyn Object>);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// [`Disk`], so that it can be had behind a pointer.
trait Object {
    fn below(&self) -> Option<&AnyDisk>;
    fn info(&self) -> Info;
    fn read<'a>(&'a self, at: u64, buf: &'a mut Buf) -> Boxed<'a, io::Result<()>>;
    fn write<'a>(&'a self, at: u64, buf: &'a Buf, fua: bool) -> Boxed<'a, io::Result<()>>;
    fn flush(&self) -> Boxed<'_, io::Result<()>>;
    fn discard(&self, at: u64, len: u64) -> Boxed<'_, io::Result<()>>;
    fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> Boxed<'_, io::Result<()>>;
    fn resized(&self) -> Boxed<'_, ()>;
    fn close(&self) -> Boxed<'_, io::Result<()>>;
}

impl<D: Disk> Object for D {
    fn below(&self) -> Option<&AnyDisk> {
        Disk::below(self)
    }
    fn info(&self) -> Info {
        Disk::info(self)
    }
    fn read<'a>(&'a self, at: u64, buf: &'a mut Buf) -> Boxed<'a, io::Result<()>> {
        Box::pin(Disk::read(self, at, buf))
    }
    fn write<'a>(&'a self, at: u64, buf: &'a Buf, fua: bool) -> Boxed<'a, io::Result<()>> {
        Box::pin(Disk::write(self, at, buf, fua))
    }
    fn flush(&self) -> Boxed<'_, io::Result<()>> {
        Box::pin(Disk::flush(self))
    }
    fn discard(&self, at: u64, len: u64) -> Boxed<'_, io::Result<()>> {
        Box::pin(Disk::discard(self, at, len))
    }
    fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> Boxed<'_, io::Result<()>> {
        Box::pin(Disk::write_zeroes(self, at, len, fua))
    }
    fn resized(&self) -> Boxed<'_, ()> {
        Box::pin(Disk::resized(self))
    }
    fn close(&self) -> Boxed<'_, io::Result<()>> {
        Box::pin(Disk::close(self))
    }
}

/// As the methods of [`Disk`].
impl AnyDisk {
    /// Puts a disk behind a pointer.
    pub fn new(disk: impl Disk) -> Self {
        Self(Rc::new(disk))
    }
    /// See [`Disk::info`].
    pub fn info(&self) -> Info {
        self.0.info()
    }
    /// See [`Disk::read`].
    pub async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        self.0.read(at, buf).await
    }
    /// See [`Disk::write`].
    pub async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        self.0.write(at, buf, fua).await
    }
    /// See [`Disk::flush`].
    pub async fn flush(&self) -> io::Result<()> {
        self.0.flush().await
    }
    /// See [`Disk::discard`].
    pub async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.0.discard(at, len).await
    }
    /// See [`Disk::write_zeroes`].
    pub async fn write_zeroes(&self, at: u64, len: u64, fua: bool) -> io::Result<()> {
        self.0.write_zeroes(at, len, fua).await
    }
    /// See [`Disk::resized`].
    pub async fn resized(&self) {
        self.0.resized().await
    }
    /// [`Disk::close`] of this one and of all that are below it.
    pub async fn close(&self) -> io::Result<()> {
        let mut result = self.0.close().await;
        let mut next = self.0.below();
        while let Some(disk) = next {
            result = result.and(disk.0.close().await);
            next = disk.0.below();
        }
        result
    }
}
