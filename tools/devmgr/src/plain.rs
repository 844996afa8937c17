// SPDX-License-Identifier: GPL-2.0
//! What the hotplug script `block` does for a plain block device, without a process: it tells the
//! back end which device is behind the disk. For disks that are attached again only.
//!
//! The script, which is called nevertheless, leaves alone what has been done already.

use crate::device::Device;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use xen::store::{Store, View};

/// The directory of a driver domain in which devmgr notes what is attached again: `GUEST/NUMBER`.
pub(crate) const AGAIN: &str = "again/vbd";

/// In a driver domain: serves all that is attached again.
pub(crate) fn serve_all(store: &mut Store) -> io::Result<()> {
    for guest in store.list(AGAIN).unwrap_or_default() {
        for number in store.list(&format!("{AGAIN}/{guest}")).unwrap_or_default() {
            serve(store, "backend/vbd", &guest, &number)?;
        }
    }
    Ok(())
}

/// Serves one disk, if it is there and is plain; `base` is the directory of this domain's back ends.
///
/// False if it is not there yet, or what is behind it is not.
pub(crate) fn serve(store: &mut Store, base: &str, guest: &str, number: &str) -> io::Result<bool> {
    let back = format!("{base}/{guest}/{number}");
    store.transaction(|store| {
        let Some(device) = Device::read(store, &back)? else {
            return Ok(false);
        };
        if !device.is_plain()
            || store
                .read_opt(&format!("{back}/physical-device"))?
                .is_some()
        {
            return Ok(true);
        }
        let path = match device.params.starts_with('/') {
            true => device.params.clone(),
            false => format!("/dev/{}", device.params),
        };
        let Some(found) = block_number(&path) else {
            return Ok(false);
        };
        // Whether that may be is for the script to judge, and to tell.
        if !is_shared(store, base, &found)? {
            store.write(&format!("{back}/physical-device-path"), path)?;
            store.write(&format!("{back}/physical-device"), found)?;
            store.write(&format!("{back}/hotplug-status"), "connected")?;
        }
        Ok(true)
    })
}

/// The number of a block device as the script writes it; `None` if it is none.
fn block_number(path: &str) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    meta.file_type()
        .is_block_device()
        .then(|| major_minor(meta.rdev()))
}

/// `major:minor`, in hexadecimal, of the C library's `dev_t`.
fn major_minor(number: u64) -> String {
    let major = (number >> 8) & 0xfff | (number >> 32) & !0xfff;
    let minor = number & 0xff | (number >> 12) & 0xffff_ff00;
    format!("{major:x}:{minor:x}")
}

/// Whether the device is behind any disk.
fn is_shared(store: &mut View<'_>, base: &str, number: &str) -> io::Result<bool> {
    for guest in store.list(base)? {
        for other in store.list(&format!("{base}/{guest}"))? {
            let node = format!("{base}/{guest}/{other}/physical-device");
            if store.read_opt(&node)?.as_deref() == Some(number) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::{block_number, major_minor};

    #[test]
    fn only_block_devices_have_a_number() {
        for path in ["/dev/null", "/", "/no/such/device"] {
            assert_eq!(block_number(path), None, "{path}");
        }
    }

    #[test]
    fn numbers() {
        for (number, text) in [
            (0x700, "7:0"),
            (0xca10, "ca:10"),
            (0x0010_0301, "3:101"),
            (0x1234_5012_3453_6789, "12345367:1234589"),
        ] {
            assert_eq!(major_minor(number), text, "{number:#x}");
        }
    }
}
