// SPDX-License-Identifier: GPL-2.0
//! Pages of this domain that another may map: `/dev/xen/gntalloc`, `xen/gntalloc.h`.

use std::fs::File;
use std::io;
use std::ops::Deref;

use crate::page::Pages;
use crate::sys::{self, Area, GntallocAlloc, GntallocDealloc, MAX_REFS};
use crate::{DomId, UnmapNotify};

/// Granted pages. Drop ends the grants; a page that the other domain still has mapped is kept by
/// the kernel until it lets go.
#[derive(Debug)]
pub struct SharedPages {
    file: File,
    index: u64,
    grefs: Vec<u32>,
    pages: Option<Pages>,
}

impl SharedPages {
    /// Allocates `count` zeroed pages (1 to 64) and grants them to `remote`; `writable` lets it
    /// write them.
    ///
    /// # Errors
    /// ENOSPC at the kernel's limit (the module's `limit` parameter, 1024 pages).
    pub fn alloc(remote: DomId, count: usize, writable: bool) -> io::Result<Self> {
        if count == 0 || count > MAX_REFS {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let file = sys::open("/dev/xen/gntalloc")?;
        let mut arg = GntallocAlloc {
            domid: remote,
            flags: writable.into(),
            count: count as u32,
            index: 0,
            refs: [0; MAX_REFS],
        };
        sys::ioctl(&file, &mut arg)?;
        let mut this = SharedPages {
            file,
            index: arg.index,
            grefs: arg.refs[..count].to_vec(),
            pages: None,
        };
        // On failure `this` is dropped and ends the grants.
        this.pages = Some(Pages::new(
            Area::map(&this.file, this.index, count, true)?,
            true,
        ));
        Ok(this)
    }

    /// The grant references, one a page.
    pub fn grefs(&self) -> &[u32] {
        &self.grefs
    }

    /// Sets what happens when this process unmaps the pages or dies.
    pub fn notify_on_unmap(&self, notify: UnmapNotify) -> io::Result<()> {
        notify.set(&self.file, self.index)
    }
}

impl Deref for SharedPages {
    type Target = Pages;
    fn deref(&self) -> &Pages {
        self.pages.as_ref().expect("set by alloc")
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        self.pages = None;
        let mut arg = GntallocDealloc {
            index: self.index,
            count: self.grefs.len() as u32,
        };
        let _ = sys::ioctl(&self.file, &mut arg);
    }
}
