// SPDX-License-Identifier: GPL-2.0
//! The system calls: ioctl with its argument structures, mmap as an owned value, poll.
//!
//! The structures repeat `xen/gntdev.h`, `xen/gntalloc.h`, `xen/evtchn.h` and `xen/privcmd.h`; the
//! tests at the end of the file have the C compiler compare sizes, offsets and request numbers.

use std::fs::{File, OpenOptions};
use std::io::{self, Error};
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use crate::PAGE_SIZE;

/// `_IOC(_IOC_NONE, kind, nr, size)`.
const fn ioc(kind: u8, nr: u8, size: usize) -> libc::c_ulong {
    ((size as libc::c_ulong) << 16) | ((kind as libc::c_ulong) << 8) | nr as libc::c_ulong
}

/// The argument of one request.
///
/// # Safety
/// The kernel reads and writes exactly the structure's own bytes for `REQUEST`, or what its
/// pointers name; those must be valid for as long as the structure is.
pub(crate) unsafe trait Request {
    const REQUEST: libc::c_ulong;
}

/// Declares argument structures and their request numbers.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* $(,)? } = ($kind:literal, $nr:literal, $size:expr);)*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Debug, Default, Clone, Copy)]
            pub(crate) struct $name { $(pub(crate) $field: $ty),* }
            // SAFETY: plain integers; the number encodes the size that the kernel copies.
            unsafe impl Request for $name {
                const REQUEST: libc::c_ulong = ioc($kind, $nr, $size);
            }
        )*
    };
}

/// References in one gntalloc or gntdev call. The kernel's own limit is higher.
pub(crate) const MAX_REFS: usize = 64;

requests! {
    EvtchnBindInterdomain { remote_domain: u32, remote_port: u32 } = (b'E', 1, size_of::<EvtchnBindInterdomain>());
    EvtchnBindUnbound { remote_domain: u32 } = (b'E', 2, size_of::<EvtchnBindUnbound>());
    EvtchnUnbind { port: u32 } = (b'E', 3, size_of::<EvtchnUnbind>());
    EvtchnNotify { port: u32 } = (b'E', 4, size_of::<EvtchnNotify>());
    GntallocDealloc { index: u64, count: u32 } = (b'G', 6, size_of::<GntallocDealloc>());
    UnmapNotifyArg { index: u64, action: u32, port: u32 } = (b'G', 7, size_of::<UnmapNotifyArg>());
    GntdevUnmap { index: u64, count: u32, pad: u32 } = (b'G', 1, size_of::<GntdevUnmap>());
    PrivcmdResource { dom: u16, kind: u32, id: u32, idx: u32, num: u64, addr: u64 } = (b'P', 7, size_of::<PrivcmdResource>());
    PrivcmdHypercall { op: u64, arg: [u64; 5] } = (b'P', 0, size_of::<PrivcmdHypercall>());
}

/// `struct ioctl_gntalloc_alloc_gref` with room for [`MAX_REFS`] references.
#[repr(C)]
pub(crate) struct GntallocAlloc {
    pub(crate) domid: u16,
    pub(crate) flags: u16,
    pub(crate) count: u32,
    pub(crate) index: u64,
    pub(crate) refs: [u32; MAX_REFS],
}
// SAFETY: plain integers. The kernel writes `count` references, which `MAX_REFS` bounds: see
// `gntalloc::alloc`. The number encodes the C structure, which has one reference and padding.
unsafe impl Request for GntallocAlloc {
    const REQUEST: libc::c_ulong = ioc(b'G', 5, 24);
}

/// `struct ioctl_gntdev_grant_ref`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct GntdevRef {
    pub(crate) domid: u32,
    pub(crate) gref: u32,
}

/// `struct ioctl_gntdev_map_grant_ref` with room for [`MAX_REFS`] references.
#[repr(C)]
pub(crate) struct GntdevMap {
    pub(crate) count: u32,
    pub(crate) pad: u32,
    pub(crate) index: u64,
    pub(crate) refs: [GntdevRef; MAX_REFS],
}
// SAFETY: plain integers. The kernel reads `count` references, bounded by `MAX_REFS` in `gntdev`.
unsafe impl Request for GntdevMap {
    const REQUEST: libc::c_ulong = ioc(b'G', 0, 24);
}

/// One end of a grant copy: an address of this process, or a reference of another domain.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union CopyPtr {
    pub(crate) virt: u64,
    pub(crate) foreign: Foreign,
}

/// The foreign half of [`CopyPtr`].
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Foreign {
    pub(crate) gref: u32,
    pub(crate) offset: u16,
    pub(crate) domid: u16,
}

/// `struct gntdev_grant_copy_segment`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CopySegment {
    pub(crate) source: CopyPtr,
    pub(crate) dest: CopyPtr,
    pub(crate) len: u16,
    pub(crate) flags: u16,
    pub(crate) status: i16,
}

/// `struct ioctl_gntdev_grant_copy`.
#[repr(C)]
pub(crate) struct GrantCopy {
    pub(crate) count: u32,
    pub(crate) segments: u64,
}
// SAFETY: `segments` names `count` segments whose addresses are live buffers of at least `len`
// bytes: `grant_copy` below is the only place that makes one.
unsafe impl Request for GrantCopy {
    const REQUEST: libc::c_ulong = ioc(b'G', 8, 16);
}

/// Opens a device for reading and writing. Its name is part of the error.
pub(crate) fn open(path: &str) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| Error::new(e.kind(), format!("{path}: {e}")))
}

/// Issues the request that `arg` belongs to and returns the call's value.
pub(crate) fn ioctl<T: Request>(file: &File, arg: &mut T) -> io::Result<u32> {
    // SAFETY: `T: Request` says that the kernel touches `arg` and what it names, no more.
    let ret = unsafe { libc::ioctl(file.as_raw_fd(), T::REQUEST as _, arg as *mut T) };
    u32::try_from(ret).map_err(|_| Error::last_os_error())
}

/// Copies `buf` into a granted page (`write`) or a granted page into `buf`.
///
/// `offset + buf.len()` must not exceed a page; Xen checks that. Returns Xen's status (0 is good).
pub(crate) fn grant_copy(
    file: &File,
    foreign: Foreign,
    buf: &mut [u8],
    write: bool,
) -> io::Result<i16> {
    let len = u16::try_from(buf.len()).map_err(|_| Error::from_raw_os_error(libc::EINVAL))?;
    let (ours, theirs) = (
        CopyPtr {
            virt: buf.as_mut_ptr() as u64,
        },
        CopyPtr { foreign },
    );
    let (source, dest, flags) = if write {
        (ours, theirs, 2)
    } else {
        (theirs, ours, 1)
    };
    let mut segment = CopySegment {
        source,
        dest,
        len,
        flags,
        status: 0,
    };
    let mut arg = GrantCopy {
        count: 1,
        segments: &raw mut segment as u64,
    };
    ioctl(file, &mut arg)?;
    // SAFETY: `segment` lives on this frame; the kernel wrote its status behind the compiler's
    // back, through the address kept as a number.
    Ok(unsafe { std::ptr::read_volatile(&raw const segment.status) })
}

/// Waits until one of `files` is readable. `None` waits for ever.
///
/// Returns which are ready; all false when the time was up.
pub(crate) fn poll_in(files: &[&File], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let until = timeout.map(|t| Instant::now() + t);
    let mut fds: Vec<libc::pollfd> = files
        .iter()
        .map(|f| libc::pollfd {
            fd: f.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    loop {
        let ms = match until {
            None => -1,
            Some(u) => {
                let left = u.saturating_duration_since(Instant::now());
                left.as_millis().min(i32::MAX as u128) as i32
                    + i32::from(left.subsec_nanos() % 1_000_000 != 0)
            }
        };
        // SAFETY: `fds` is an array of `fds.len()` initialised elements.
        let ret = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, ms) };
        if ret >= 0 {
            return Ok(fds.iter().map(|f| f.revents != 0).collect());
        }
        let err = Error::last_os_error();
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    }
}

/// An owned shared mapping of whole pages.
///
/// # Invariants
/// `base` is the start of `pages` mapped pages, until drop.
#[derive(Debug)]
pub(crate) struct Area {
    base: NonNull<u8>,
    pages: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `page.rs` reaches it by atomic
// words and volatile bytes only.
unsafe impl Send for Area {}
// SAFETY: as above; there is no interior state but the shared memory itself.
unsafe impl Sync for Area {}

impl Area {
    /// Maps `pages` pages of `file` at `offset` bytes. `writable` asks for write access as well.
    pub(crate) fn map(file: &File, offset: u64, pages: usize, writable: bool) -> io::Result<Self> {
        let prot = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let bytes = pages.checked_mul(PAGE_SIZE).filter(|b| *b > 0);
        let bytes = bytes.ok_or_else(|| Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs no other.
        let p = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                prot,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if p == libc::MAP_FAILED {
            return Err(Error::last_os_error());
        }
        // INVARIANT: mmap succeeded, and never returns address 0 without MAP_FIXED.
        let base = NonNull::new(p.cast()).ok_or_else(|| Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Area { base, pages })
    }

    /// The first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// How many bytes are mapped.
    pub(crate) fn len(&self) -> usize {
        self.pages * PAGE_SIZE
    }

    /// How many pages are mapped.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: by the invariant this is our mapping, and nothing borrows it any longer.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;
    use std::process::Command;

    /// Has the C compiler compare our layouts with the kernel's headers.
    #[test]
    fn layouts_agree_with_the_c_headers() {
        let mut c = String::from(
            "#include <stddef.h>\n#include <sys/ioctl.h>\n#include <linux/types.h>\n#include <stdint.h>\n\
             typedef uint16_t domid_t; typedef uint32_t grant_ref_t; typedef unsigned long xen_pfn_t;\n\
             #define __user\n#include <xen/evtchn.h>\n#include <xen/gntalloc.h>\n#include <xen/gntdev.h>\n\
             #include <xen/privcmd.h>\n",
        );
        let mut is = |what: String, value: u64| {
            c += &format!("_Static_assert((unsigned long)({what}) == {value}ul, \"{what}\");\n");
        };
        let requests = [
            (
                "IOCTL_EVTCHN_BIND_INTERDOMAIN",
                EvtchnBindInterdomain::REQUEST,
            ),
            ("IOCTL_EVTCHN_BIND_UNBOUND_PORT", EvtchnBindUnbound::REQUEST),
            ("IOCTL_EVTCHN_UNBIND", EvtchnUnbind::REQUEST),
            ("IOCTL_EVTCHN_NOTIFY", EvtchnNotify::REQUEST),
            ("IOCTL_GNTALLOC_ALLOC_GREF", GntallocAlloc::REQUEST),
            ("IOCTL_GNTALLOC_DEALLOC_GREF", GntallocDealloc::REQUEST),
            ("IOCTL_GNTALLOC_SET_UNMAP_NOTIFY", UnmapNotifyArg::REQUEST),
            ("IOCTL_GNTDEV_SET_UNMAP_NOTIFY", UnmapNotifyArg::REQUEST),
            ("IOCTL_GNTDEV_MAP_GRANT_REF", GntdevMap::REQUEST),
            ("IOCTL_GNTDEV_UNMAP_GRANT_REF", GntdevUnmap::REQUEST),
            ("IOCTL_GNTDEV_GRANT_COPY", GrantCopy::REQUEST),
            ("IOCTL_PRIVCMD_MMAP_RESOURCE", PrivcmdResource::REQUEST),
            ("IOCTL_PRIVCMD_HYPERCALL", PrivcmdHypercall::REQUEST),
        ];
        for (name, number) in requests {
            is(name.into(), number);
        }
        let offsets = [
            (
                "ioctl_gntalloc_alloc_gref",
                "index",
                offset_of!(GntallocAlloc, index),
            ),
            (
                "ioctl_gntalloc_alloc_gref",
                "gref_ids",
                offset_of!(GntallocAlloc, refs),
            ),
            (
                "ioctl_gntalloc_dealloc_gref",
                "count",
                offset_of!(GntallocDealloc, count),
            ),
            (
                "ioctl_gntdev_map_grant_ref",
                "index",
                offset_of!(GntdevMap, index),
            ),
            (
                "ioctl_gntdev_map_grant_ref",
                "refs",
                offset_of!(GntdevMap, refs),
            ),
            (
                "ioctl_gntdev_unmap_notify",
                "event_channel_port",
                offset_of!(UnmapNotifyArg, port),
            ),
            (
                "gntdev_grant_copy_segment",
                "dest",
                offset_of!(CopySegment, dest),
            ),
            (
                "gntdev_grant_copy_segment",
                "source.foreign.domid",
                offset_of!(Foreign, domid),
            ),
            (
                "gntdev_grant_copy_segment",
                "status",
                offset_of!(CopySegment, status),
            ),
            (
                "ioctl_gntdev_grant_copy",
                "segments",
                offset_of!(GrantCopy, segments),
            ),
            (
                "privcmd_mmap_resource",
                "num",
                offset_of!(PrivcmdResource, num),
            ),
            (
                "privcmd_mmap_resource",
                "addr",
                offset_of!(PrivcmdResource, addr),
            ),
            (
                "privcmd_hypercall",
                "arg",
                offset_of!(PrivcmdHypercall, arg),
            ),
        ];
        for (s, field, offset) in offsets {
            is(format!("offsetof(struct {s}, {field})"), offset as u64);
        }
        is(
            "sizeof(struct gntdev_grant_copy_segment)".into(),
            size_of::<CopySegment>() as u64,
        );
        is(
            "sizeof(struct privcmd_mmap_resource)".into(),
            size_of::<PrivcmdResource>() as u64,
        );

        let dir = std::env::temp_dir().join(format!("xen-layout-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // privcmd.h includes a header that is not installed; the types above are all it needs.
        std::fs::create_dir_all(dir.join("xen/interface")).unwrap();
        std::fs::write(dir.join("xen/interface/xen.h"), "").unwrap();
        let source = dir.join("layout.c");
        std::fs::write(&source, c).unwrap();
        let out = Command::new("cc")
            .arg("-fsyntax-only")
            .arg("-I")
            .arg(&dir)
            .arg(&source)
            .output()
            .expect("a C compiler");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(out.status.success(), "{said}");
    }

    #[test]
    fn an_area_maps_and_unmaps() {
        let path = std::env::temp_dir().join(format!("xen-area-{}", std::process::id()));
        std::fs::write(&path, vec![7u8; 2 * PAGE_SIZE]).unwrap();
        let file = open(path.to_str().unwrap()).unwrap();
        let area = Area::map(&file, PAGE_SIZE as u64, 1, false).unwrap();
        assert_eq!((area.len(), area.pages()), (PAGE_SIZE, 1));
        assert!(Area::map(&file, 0, 0, false).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
