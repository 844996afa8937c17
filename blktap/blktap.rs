// SPDX-License-Identifier: GPL-2.0

//! Taps on disks: `/dev/blktap`, by which a program sits between a guest and its disk.
//!
//! ```text
//! guest ──▶ blkback ──▶ stage ──▶ disk
//!              │          ▲
//!              ▼          │           blkback::tap
//!           queue.rs ─────┘
//!              │  ▲
//!   front-end  ▼  │  back-end ring, window: program.rs
//!             program
//! ```
//!
//! - `queue.rs`: a tap's side of a queue of the disk, which the queue's thread calls;
//!   `queue/front.rs`: the guest's requests, `queue/back.rs`: the program's.
//! - `program.rs`: the rings and the data window that a program has of a queue.
//! - `tap.rs`: a tap: modes, programs that come and go; `shared.rs`: what its queues see of that.
//! - `taps.rs`: all taps, and the wait for a disk.
//! - `file.rs`: an open file: its ioctls.
//! - `chardev.rs`: the glue to the character device and to user memory, all that is not safe Rust.
//!
//! What is said over the rings and by the ioctls is in `protocol::tap`, the tables behind it and the
//! checks in `protocol::tapped`.
//!
//! # Locks
//!
//! Those of blkback come first: of the connection, of the slot. Then `Shared::control`, a signal's
//! bell, a queue's `inner`, its `next`. With `control` held nothing of blkback's is called.
//!
//! C header: `blktap/blktap.h`

mod chardev;
mod file;
mod program;
mod queue;
mod shared;
mod tap;
mod taps;

use kernel::prelude::*;

module! {
    type: Blktap,
    name: "blktap",
    authors: ["The Xen split drivers in Rust"],
    description: "Taps on Xen block back ends",
    license: "GPL",
}

/// The fields go in their order: the device first.
#[pin_data]
struct Blktap {
    #[pin]
    device: chardev::Registration,
    taps: taps::Observed,
}

impl kernel::InPlaceModule for Blktap {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        chardev::init();
        try_pin_init!(Blktap {
            taps: taps::Observed::new()?,
            device <- chardev::Registration::new(),
        })
    }
}
