// SPDX-License-Identifier: GPL-2.0

//! The files of a device in sysfs.

use crate::Blkback;
use core::ptr;
use kernel::{
    bindings,
    error::{from_result, to_result},
    ffi::{c_char, c_void},
    str::CStrExt as _,
    types::ForeignOwnable,
};
use xenbus::prelude::*;

/// What is in sysfs for as long as the program runs.
#[repr(transparent)]
struct Static<T>(T);

// SAFETY: Never written to after the compiler.
unsafe impl<T> Sync for Static<T> {}

/// The file `name`, which root may write if `writable`.
// With lock debugging there are more fields.
#[allow(clippy::needless_update)]
const fn attribute(name: &'static CStr, writable: bool) -> bindings::device_attribute {
    bindings::device_attribute {
        attr: bindings::attribute {
            name: name.as_ptr().cast(),
            mode: if writable { 0o644 } else { 0o444 },
            ..pin_init::zeroed()
        },
        __bindgen_anon_1: bindings::device_attribute__bindgen_ty_1 { show: Some(show) },
        __bindgen_anon_2: bindings::device_attribute__bindgen_ty_2 {
            store: if writable { Some(store) } else { None },
        },
    }
}

macro_rules! is_set {
    () => {
        false
    };
    (writable) => {
        true
    };
}

macro_rules! group {
    ($group:ident, $attrs:ident, $pointers:ident, $name:expr, $count:literal, [$($attr:literal $($writable:ident)?),+]) => {
        static $attrs: Static<[bindings::device_attribute; $count]> =
            Static([$(attribute($attr, is_set!($($writable)?))),+]);

        static $pointers: Static<[*const bindings::attribute; $count + 1]> = {
            let mut pointers = [ptr::null(); $count + 1];
            let mut i = 0;
            while i < $count {
                pointers[i] = &raw const $attrs.0[i].attr;
                i += 1;
            }
            Static(pointers)
        };

        static $group: Static<bindings::attribute_group> = Static(bindings::attribute_group {
            name: $name,
            __bindgen_anon_1: bindings::attribute_group__bindgen_ty_1 { is_visible: None },
            is_bin_visible: None,
            bin_size: None,
            __bindgen_anon_2: bindings::attribute_group__bindgen_ty_2 {
                attrs_const: (&raw const $pointers).cast(),
            },
            bin_attrs: ptr::null(),
        });
    };
}

group!(
    DEVICE,
    DEVICE_ATTRS,
    DEVICE_POINTERS,
    ptr::null(),
    3,
    [c"physical_device", c"mode", c"polling" writable]
);
group!(
    STATISTICS,
    STATISTICS_ATTRS,
    STATISTICS_POINTERS,
    c"statistics".as_ptr().cast(),
    7,
    [c"oo_req", c"rd_req", c"wr_req", c"f_req", c"ds_req", c"rd_sect", c"wr_sect"]
);

static GROUPS: Static<[*const bindings::attribute_group; 3]> =
    Static([&raw const DEVICE.0, &raw const STATISTICS.0, ptr::null()]);

/// The files of a device in sysfs: `physical_device`, `mode` and `statistics/`, as of the C driver,
/// and `polling`, by which it can be changed how its rings are polled.
///
/// Dropping it removes them, and waits for those who are reading them. Sleeps.
pub(crate) struct Attributes(ARef<Device>);

impl Attributes {
    /// Makes the files; [`Blkback::show`] gives their contents. Sleeps.
    pub(crate) fn new(dev: &Device) -> Result<Self> {
        // SAFETY: The device is live, the groups are static and end with NULL.
        to_result(unsafe {
            bindings::sysfs_create_groups(Self::kobj(dev), (&raw const GROUPS).cast())
        })?;
        Ok(Attributes(dev.into()))
    }

    fn kobj(dev: &Device) -> *mut bindings::kobject {
        // CAST: `kernel::device::Device` is a transparent wrapper of the C type.
        let dev = ptr::from_ref(dev.dev())
            .cast::<bindings::device>()
            .cast_mut();
        // SAFETY: The device is live.
        unsafe { &raw mut (*dev).kobj }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: Made by `new`.
        unsafe { bindings::sysfs_remove_groups(Self::kobj(&self.0), (&raw const GROUPS).cast()) };
    }
}

/// Runs `f` on the value of a device and the name of one of its files.
///
/// # Safety
///
/// As sysfs hands them to `show` and `store` of one of the files here.
unsafe fn with(
    dev: *mut bindings::device,
    attr: *mut bindings::device_attribute,
    f: impl FnOnce(&Blkback, &[u8]) -> Result<isize>,
) -> isize {
    // SAFETY: sysfs hands us a live device.
    let data: *mut c_void = unsafe { bindings::dev_get_drvdata(dev) };
    if data.is_null() {
        return ENODEV.to_errno() as isize;
    }
    // SAFETY: What `xenbus::driver` keeps there is the `Arc` that `probe` made; it is taken back
    // after `remove`, which removes this file and so waits for us.
    let blkback = unsafe { <Arc<Blkback> as ForeignOwnable>::borrow(data) };
    // SAFETY: One of ours, whose name is static.
    let name = unsafe { CStr::from_char_ptr((*attr).attr.name) };
    from_result(|| f(&blkback, name.to_bytes()))
}

unsafe extern "C" fn show(
    dev: *mut bindings::device,
    attr: *mut bindings::device_attribute,
    buf: *mut c_char,
) -> isize {
    let show = |blkback: &Blkback, name: &[u8]| {
        let text = blkback.show(name)?;
        // SAFETY: The buffer is a page, as sysfs promises; the format takes one string.
        let len = unsafe { bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), text.as_char_ptr()) };
        Ok(len as isize)
    };
    // SAFETY: Called by sysfs.
    unsafe { with(dev, attr, show) }
}

unsafe extern "C" fn store(
    dev: *mut bindings::device,
    attr: *mut bindings::device_attribute,
    buf: *const c_char,
    count: usize,
) -> isize {
    let store = |blkback: &Blkback, name: &[u8]| {
        // SAFETY: sysfs ends what was written with a 0.
        let text = unsafe { CStr::from_char_ptr(buf) };
        blkback.store(name, text.to_str()?)?;
        Ok(count as isize)
    };
    // SAFETY: Called by sysfs.
    unsafe { with(dev, attr, store) }
}
