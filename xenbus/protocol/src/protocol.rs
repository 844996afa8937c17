// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The protocols of Xen split drivers, and nothing else.
//!
//! Pure functions and values: no allocation, no `unsafe`, no dependency, no way to reach shared
//! memory but the [`ring::Memory`] trait. Kbuild compiles this file for the kernel modules, cargo
//! for the host tests and the tools.
//!
//! - [`ring`]: the shared request/response ring (`xen/io/ring.h`), a front and a back end of it
//! - [`blkif`]: the block protocol on such a ring (`xen/io/blkif.h`): wire format in its ABIs,
//!   checks of requests and of responses
//! - [`fence`]: how a barrier in one queue holds all of them
//! - [`kept`]: the table of the pages that a back end keeps mapped
//! - [`negotiate`]: what the two ends read from each other in xenstore, made into checked values
//! - [`netif`]: the network protocol (`xen/io/netif.h`): wire format, checks of packets in either
//!   direction, control ring and hash, what the two ends read in xenstore
//! - [`spin`]: how long a thread looks at a ring before it sleeps
//! - [`state`]: the xenbus states (`xen/io/xenbus.h`) and what each end does next
//! - [`tap`]: what `/dev/blktap` and the program behind it say to each other
//! - [`tapped`]: the kernel's side of that
//! - [`vdev`]: the number of a virtual block device, made into a name and minors
//! - `mock`: a memory, peers and a fault injector for tests (feature `mock`, needs std)
//!
//! # A request's way
//!
//! ```text
//! front: RawRequest ──push──▶ ring ──pop──▶ RawRequest ──Request::parse──▶ Request   :back
//! front: Pending::finish ◀──pop── ring ◀──push── Response                            :back
//! ```
//!
//! A packet takes several entries, each way: [`netif::TxSend`] and [`netif::RxSend`] make them,
//! [`netif::TxPacket`] and [`netif::RxPacket`] are what comes of them at the other end.
//!
//! What the peer wrote is copied out of the shared page once, decoded into a plain value of type
//! [`blkif::RawRequest`] or [`blkif::Response`], and checked as that value. How an entry lies in
//! memory is the business of a [`ring::Codec`], a value given to the ring when it is made, so that
//! a back end chooses the ABI of its front end at run time.
//!
//! # What a peer can do
//!
//! Anything to the shared page, at any moment. No function here panics for it: indices are compared
//! by wrapping subtraction, slices are reached through `get`. A peer that breaks the rules of the
//! ring gets a [`ring::Overrun`], after which that ring refuses to go on.
//!
//! # How it is tested
//!
//! All by `tools/host-tests`, each also by itself:
//!
//! - `src`: unit and property tests beside the code (`cargo test -p protocol` in `tools/`)
//! - `oracle`: against Xen's own C headers, their layout and their behaviour, C at either end
//! - `loom`: all interleavings of the two ends, on a weakly ordered machine
//! - `fuzz`: a hostile peer made of bytes, with a corpus
//! - `nopanic`: the machine code holds no call to a panic

#![cfg_attr(not(MODULE), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

#[cfg(any(test, feature = "mock"))]
extern crate std;

#[cfg(test)]
mod advisories;
pub mod blkif;
mod bytes;
pub mod fence;
pub mod kept;
#[cfg(any(test, feature = "mock"))]
pub mod mock;
pub mod negotiate;
pub mod netif;
pub mod ring;
pub mod spin;
pub mod state;
pub mod tap;
pub mod tapped;
pub mod vdev;
