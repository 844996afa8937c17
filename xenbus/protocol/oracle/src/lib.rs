// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Xen's own `xen/io/ring.h`, `xen/io/blkif.h` and `xen/io/netif.h` (Debian: libxen-dev), to be
//! compared with the protocol crate.
//!
//! - [`layout`]: where the C compiler puts the fields of the structures, per ABI
//! - [`c`]: the macros of `ring.h` as a front and a back end, per ABI; the hash of `netif.h`
//! - [`Page`]: a page that both languages can use
//! - [`Front`], [`Back`]: what can be done with either end, C's and ours, so that tests drive them
//!   alike

pub mod c;
mod end;
mod page;

pub use end::{Back, Front};
pub use page::Page;

/// What the C compiler says of the structures in `blkif.h` and `netif.h`; see `c/layout.c`.
pub mod layout {
    /// A field, a structure (with value 0), or a constant (with size 0).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Entry {
        /// `structure`, `structure.field` or `CONSTANT`.
        pub name: &'static str,
        /// Byte offset of a field, or value of a constant.
        pub value: i64,
        /// Size in bytes.
        pub size: usize,
    }

    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}
