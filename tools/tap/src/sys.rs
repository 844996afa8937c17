// SPDX-License-Identifier: GPL-2.0
//! All the `unsafe` of the crate, behind safe interfaces.
//!
//! - `buf.rs`: memory for data, on the heap or in a tap's window
//! - `uring.rs`: the kernel's queue of operations, and what each holds while it runs
//! - `op.rs`: the operations
//! - `watch.rs`: a file that is polled again and again
//! - `map.rs`: a region of `/dev/blktap`, mapped
//! - `ioctl.rs`: the ioctls of `/dev/blktap`
//! - `ublk.rs`: ublk's control device, and its descriptions of requests
//! - `os.rs`: the few other system calls

pub mod buf;
pub(crate) mod ioctl;
pub(crate) mod map;
pub mod op;
pub mod os;
pub(crate) mod ublk;
pub(crate) mod uring;
pub(crate) mod watch;
