// SPDX-License-Identifier: GPL-2.0
//! The program `blktap`. Needs Debian's libnbd-bin, qemu-utils and python3.
//!
//! - `nbd.rs`: the NBD server
//! - `cow.rs`: `map`, `commit` and `check`
//! - `server.rs`: what both need

mod cow;
mod nbd;
mod server;
