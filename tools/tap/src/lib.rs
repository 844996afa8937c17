// SPDX-License-Identifier: GPL-2.0
//! Disks in a few lines of Rust.
//!
//! An extension is a [`Disk`]: by itself, or as a filter of another. It is served to a Xen guest by
//! `/dev/blktap`, and to anybody by NBD; the extension does not know by which.
//!
//! ```no_run
//! use std::io::Result;
//! use tap::{AnyDisk, Buf, Disk};
//!
//! /// Every byte of the disk below, turned around.
//! struct Invert(AnyDisk);
//!
//! impl Disk for Invert {
//!     fn below(&self) -> Option<&AnyDisk> {
//!         Some(&self.0)
//!     }
//!     async fn read(&self, at: u64, data: &mut Buf) -> Result<()> {
//!         self.0.read(at, data).await?;
//!         data.iter_mut().for_each(|byte| *byte = !*byte);
//!         Ok(())
//!     }
//!     async fn write(&self, at: u64, data: &Buf, fua: bool) -> Result<()> {
//!         let mut copy = Buf::copy_of(data);
//!         copy.iter_mut().for_each(|byte| *byte = !*byte);
//!         self.0.write(at, &copy, fua).await
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     tap::filter("invert", Invert)
//! }
//! ```
//!
//! - [`disk`](Disk): what a disk does
//! - [`Buf`]: memory for data
//! - [`chain`]: the text that says which extensions, with which options, in which order
//! - [`rt`]: tasks, time, and what tasks of a thread share
//! - `file.rs`, `noop.rs`: the extensions `raw` and `noop`
//! - [`program`]: `main`, for a program with these or other extensions
//! - [`docs`]: man pages and completions of programs
//! - [`net`]: streams for those that talk to another machine
//! - [`dev`]: the front that serves a disk to a Xen guest, and `/dev/blktap` for other programs
//! - [`nbd`]: the front that serves a disk to NBD clients
//! - [`ublk`]: the front that makes a disk a block device of this machine
//!
//! The runtime is our own, of some hundred lines over the crate io-uring: a queue of a tap is a
//! thread that has its rings, its tasks and its io_uring to itself, and passes on what a round of
//! tasks has left in one system call. The runtimes that exist (compio, monoio, tokio-uring) bring
//! buffers of their own that a tap's window cannot be, and forty to a hundred crates.

// Not of the examples, which somebody begins with.
#![deny(missing_docs)]

pub mod chain;
pub mod dev;
mod disk;
pub mod docs;
mod file;
pub mod log;
pub mod nbd;
pub mod net;
mod noop;
mod program;
pub mod rt;
mod sys;
pub mod ublk;
pub mod vdev;

pub use chain::{Extension, Opt, Options, Registry};
pub use disk::{AnyDisk, Disk, Info};
pub use file::Raw;
pub use noop::Noop;
pub use program::{filter, program, program_with, say, Verb};
pub use sys::buf::{Buf, Part, PartMut, ALIGN};
pub use sys::op;
pub use sys::os::lock;
