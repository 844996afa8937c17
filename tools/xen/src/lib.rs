// SPDX-License-Identifier: GPL-2.0
//! Safe access to Xen from a Linux process.
//!
//! | module | device | what it gives |
//! |---|---|---|
//! | [`gntalloc`] | `/dev/xen/gntalloc` | own pages that another domain may map |
//! | [`gntdev`] | `/dev/xen/gntdev` | another domain's granted pages, mapped or copied |
//! | [`evtchn`] | `/dev/xen/evtchn` | interdomain event channels |
//! | [`store`] | `/dev/xen/xenbus` | xenstore: nodes, permissions, watches, transactions |
//! | [`privcmd`] | `/dev/xen/privcmd` | a domain's grant table, read from dom0 |
//! | [`page`] | | shared memory, reached by copies and single words only |
//!
//! What is held is a value, and dropping it gives it back. The C headers that are followed are
//! `xen/gntdev.h`, `xen/gntalloc.h`, `xen/evtchn.h` and `xen/privcmd.h` of the kernel's user
//! headers, and Xen's `io/xs_wire.h`. All `unsafe` of the tools lives here: in `sys.rs` and, for
//! the words of shared memory, in `page.rs`.
//!
//! Everything but [`privcmd`] works in any domain whose kernel has the device.

use std::fs::File;
use std::io;

pub mod evtchn;
pub mod gntalloc;
pub mod gntdev;
pub mod page;
pub mod privcmd;
pub mod store;
mod sys;

/// Bytes in a page, which is also the unit of a grant.
pub const PAGE_SIZE: usize = 4096;

/// A domain's number.
pub type DomId = u16;

/// What a notification set with [`gntalloc::SharedPages::notify_on_unmap`] or
/// [`gntdev::MappedPages::notify_on_unmap`] does when the pages are unmapped, be it by drop or by
/// the death of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnmapNotify {
    /// Clears the byte at this offset within the pages.
    pub clear_byte: Option<usize>,
    /// Sends an event to this local port.
    pub send_event: Option<u32>,
}

impl UnmapNotify {
    /// `(byte, action bits, port)` as `xen/gntdev.h` wants them.
    /// Tells the device `file` of it, for the pages that it has at `index`; the argument of
    /// gntalloc's request and that of gntdev's are the same.
    fn set(&self, file: &File, index: u64) -> io::Result<()> {
        let mut arg = sys::UnmapNotifyArg {
            index: index + self.clear_byte.unwrap_or(0) as u64,
            action: self.clear_byte.map_or(0, |_| 1) | self.send_event.map_or(0, |_| 2),
            port: self.send_event.unwrap_or(0),
        };
        sys::ioctl(file, &mut arg).map(drop)
    }
}
