// SPDX-License-Identifier: GPL-2.0
//! Another domain's granted pages: `/dev/xen/gntdev`, `xen/gntdev.h`.

use std::fs::File;
use std::io;
use std::ops::Deref;

use crate::page::Pages;
use crate::sys::{self, Area, Foreign, GntdevMap, GntdevRef, GntdevUnmap, MAX_REFS};
use crate::{DomId, UnmapNotify};

/// Mapped foreign pages. Drop unmaps them.
#[derive(Debug)]
pub struct MappedPages {
    file: File,
    index: u64,
    pages: Option<Pages>,
    count: u32,
}

impl MappedPages {
    /// Maps the pages that `grefs` (1 to 64) of `remote` stand for, in order.
    ///
    /// # Errors
    /// EINVAL where a reference is not granted to this domain, or not `writable` as asked; none
    /// is mapped then.
    pub fn map(remote: DomId, grefs: &[u32], writable: bool) -> io::Result<Self> {
        if grefs.is_empty() || grefs.len() > MAX_REFS {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let file = sys::open("/dev/xen/gntdev")?;
        let mut refs = [GntdevRef::default(); MAX_REFS];
        for (to, gref) in refs.iter_mut().zip(grefs) {
            *to = GntdevRef {
                domid: remote.into(),
                gref: *gref,
            };
        }
        let mut arg = GntdevMap {
            count: grefs.len() as u32,
            pad: 0,
            index: 0,
            refs,
        };
        sys::ioctl(&file, &mut arg)?;
        let mut this = MappedPages {
            file,
            index: arg.index,
            pages: None,
            count: arg.count,
        };
        // On failure `this` is dropped and takes the references back from the device.
        this.pages = Some(Pages::new(
            Area::map(&this.file, this.index, grefs.len(), writable)?,
            writable,
        ));
        Ok(this)
    }

    /// Sets what happens when this process unmaps the pages or dies.
    pub fn notify_on_unmap(&self, notify: UnmapNotify) -> io::Result<()> {
        notify.set(&self.file, self.index)
    }
}

impl Deref for MappedPages {
    type Target = Pages;
    fn deref(&self) -> &Pages {
        self.pages.as_ref().expect("set by map")
    }
}

impl Drop for MappedPages {
    fn drop(&mut self) {
        self.pages = None;
        let mut arg = GntdevUnmap {
            index: self.index,
            count: self.count,
            pad: 0,
        };
        let _ = sys::ioctl(&self.file, &mut arg);
    }
}

/// A handle to copy granted bytes without mapping their page.
#[derive(Debug)]
pub struct GrantCopier(File);

impl GrantCopier {
    /// Opens the device.
    pub fn new() -> io::Result<Self> {
        sys::open("/dev/xen/gntdev").map(GrantCopier)
    }

    fn copy(
        &self,
        domid: DomId,
        gref: u32,
        offset: u16,
        buf: &mut [u8],
        write: bool,
    ) -> io::Result<()> {
        match sys::grant_copy(
            &self.0,
            Foreign {
                gref,
                offset,
                domid,
            },
            buf,
            write,
        )? {
            0 => Ok(()),
            status => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("grant copy of {gref}: status {status}"),
            )),
        }
    }

    /// Copies from `remote`'s page `gref` at `offset`; offset and length together at most a page.
    pub fn read(&self, remote: DomId, gref: u32, offset: u16, to: &mut [u8]) -> io::Result<()> {
        self.copy(remote, gref, offset, to, false)
    }

    /// Copies to `remote`'s page `gref` at `offset`; offset and length together at most a page.
    pub fn write(&self, remote: DomId, gref: u32, offset: u16, from: &[u8]) -> io::Result<()> {
        self.copy(remote, gref, offset, &mut from.to_vec(), true)
    }
}
