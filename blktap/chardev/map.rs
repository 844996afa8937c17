// SPDX-License-Identifier: GPL-2.0

//! The pages that a program maps: ordinary ones, so that they can be used in direct I/O.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{file_of, Static};
use kernel::{bindings, error::from_result, ffi::c_int, mm::virt::VmaNew, page::PAGE_SIZE};
use xenbus::prelude::*;

static OPERATIONS: Static<bindings::vm_operations_struct> =
    Static(bindings::vm_operations_struct {
        fault: Some(fault),
        ..pin_init::zeroed()
    });

pub(super) unsafe extern "C" fn mmap(
    file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: The core hands us an open file and an area that is being set up.
    let (it, area) = unsafe { (file_of(file), VmaNew::from_raw(vma)) };
    from_result(|| {
        let pages = area.end().wrapping_sub(area.start()) / PAGE_SIZE;
        // SAFETY: As above.
        let first = unsafe { (*vma).vm_pgoff };
        it.region(first, pages)?;
        if area.flags() & kernel::mm::virt::flags::SHARED == 0 {
            return Err(EINVAL);
        }
        area.try_clear_mayexec()?;
        // A copy of the area would not see what the kernel does, nor a longer one be there.
        area.set_dontcopy();
        area.set_dontexpand();
        area.set_dontdump();
        // SAFETY: As above; the area holds the file, and so the module.
        unsafe { (*vma).vm_ops = &raw const OPERATIONS.0 };
        Ok(0)
    })
}

unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: The core hands us a fault in an area of ours, whose file is open.
    let (it, page) = unsafe {
        let at = &(*vmf).__bindgen_anon_1;
        (file_of((*at.vma).vm_file), at.pgoff)
    };
    let shared = it
        .region(page, 1)
        .and_then(|(region, first)| region.share(first));
    match shared {
        Ok(page) => {
            // SAFETY: As above; the reference goes to the mapping.
            unsafe { (*vmf).page = page };
            0
        }
        Err(e) if e == ENOMEM => bindings::vm_fault_reason_VM_FAULT_OOM,
        Err(_) => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
    }
}
