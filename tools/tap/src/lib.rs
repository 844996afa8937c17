// SPDX-License-Identifier: GPL-2.0
//! Disks in a few lines of Rust.
//!
//! An extension is a [`Disk`]: by itself, or as a filter of another. It is served to a Xen guest by
//! `/dev/blktap`, and to anybody by NBD; the extension does not know by which.
//!
//! ```
//! use std::io;
//! use tap::{AnyDisk, Buf, Disk, Extension, Options};
//!
//! /// Every byte of the disk below, turned around.
//! struct Invert(AnyDisk);
//!
//! impl Disk for Invert {
//!     fn below(&self) -> Option<&AnyDisk> {
//!         Some(&self.0)
//!     }
//!     async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
//!         self.0.read(at, buf).await?;
//!         buf.iter_mut().for_each(|byte| *byte = !*byte);
//!         Ok(())
//!     }
//!     async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
//!         let mut copy = Buf::copy_of(buf);
//!         copy.iter_mut().for_each(|byte| *byte = !*byte);
//!         self.0.write(at, &copy, fua).await
//!     }
//! }
//!
//! impl Extension for Invert {
//!     const NAME: &str = "invert";
//!     const HELP: &str = "turns every bit around";
//!     const FILTER: bool = true;
//!     async fn open(options: &Options) -> io::Result<Self> {
//!         Ok(Invert(options.below()?))
//!     }
//! }
//! ```
//!
//! - [`disk`](Disk): what a disk does
//! - [`Buf`]: memory for data
//! - [`chain`]: the text that says which extensions, with which options, in which order
//! - [`rt`]: tasks, time, and what tasks of a thread share
//! - `file.rs`, `noop.rs`: the extensions `raw` and `noop`
//! - [`program`]: `main`, for a program with these or other extensions
//! - [`net`]: streams for those that talk to another machine
//! - [`dev`]: the front that serves a disk to a Xen guest, and `/dev/blktap` for other programs
//! - [`nbd`]: the front that serves a disk to NBD clients
//!
//! The runtime is our own, of some hundred lines over the crate io-uring: a queue of a tap is a
//! thread that has its rings, its tasks and its io_uring to itself, and passes on what a round of
//! tasks has left in one system call. The runtimes that exist (compio, monoio, tokio-uring) bring
//! buffers of their own that a tap's window cannot be, and forty to a hundred crates.

pub mod chain;
pub mod dev;
mod disk;
mod file;
pub mod log;
pub mod nbd;
pub mod net;
mod noop;
mod program;
pub mod rt;
mod sys;
pub mod vdev;

pub use chain::{Extension, Opt, Options, Registry};
pub use disk::{AnyDisk, Disk, Info};
pub use file::Raw;
pub use noop::Noop;
pub use program::program;
pub use sys::buf::{Buf, Part, PartMut, ALIGN};
pub use sys::uring as op;
