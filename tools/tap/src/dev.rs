// SPDX-License-Identifier: GPL-2.0
//! `/dev/blktap`: the fronts that serve a guest.
//!
//! - `dev/device.rs`: [`Device`], the ioctls; also for those who only ask
//! - `dev/queue.rs`: the rings of a queue, and how what was put there is passed on in batches
//! - `dev/front.rs`: a [`Disk`](crate::Disk) as the guest's disk
//! - `dev/below.rs`: the guest's disk, as it was before the tap, as a [`Disk`](crate::Disk)
//! - `dev/hooks.rs`: [`VirtualDisk`], the lower form: requests that are looked at as they pass
//! - `dev/rehearsal.rs`: [`Rehearsal`], what hooks are tested with
//! - `dev/run.rs`: a chain as a guest's disk: threads, signals, changes

mod below;
mod device;
mod front;
mod hooks;
mod queue;
mod rehearsal;
mod run;
#[cfg(test)]
mod tests;

pub use device::{Device, Opened, DEVICE};
pub use hooks::{Closing, Hook, Passing, Verdict, VirtualDisk};
pub use protocol::tap::ioctl::{Attach, Geometry, Info, QueueInfo, BUCKETS};
pub use protocol::tap::{flag, op, status};
pub use protocol::tap::{Mode, Policy, Request, State};
pub use rehearsal::Rehearsal;
pub use run::{run, Options};
