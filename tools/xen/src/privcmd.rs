// SPDX-License-Identifier: GPL-2.0
//! A domain as dom0 sees it: whether Xen has anything of it, and its grant table.
//! `/dev/xen/privcmd`, `xen/privcmd.h`, and Xen's `memory.h` and `grant_table.h` (version 1 entries,
//! which is what Linux uses on x86 below 16 TiB).

use std::collections::BTreeMap;
use std::io;

use crate::page::Pages;
use crate::sys::{self, Area, PrivcmdHypercall, PrivcmdResource};
use crate::{DomId, PAGE_SIZE};

/// What one domain's grant table gives to one other domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// References that the other domain may use.
    pub granted: u32,
    /// Of these, references that it has mapped now.
    pub mapped: u32,
}

/// Bytes of `struct grant_entry_v1`.
const ENTRY: usize = 8;

/// Counts the grants of `domid` by the domain that they are given to.
///
/// # Errors
/// EPERM outside dom0, ESRCH for a domain that does not exist.
pub fn grants(domid: DomId) -> io::Result<BTreeMap<DomId, Grants>> {
    Ok(count(&table(domid)?))
}

/// Whether the entry `gref` of `domid`'s grant table gives anybody access to a page.
///
/// # Errors
/// As of [`grants`]; EINVAL if the table is shorter.
pub fn is_granted(domid: DomId, gref: u32) -> io::Result<bool> {
    let table = table(domid)?;
    let entry = table.chunks_exact(ENTRY).nth(gref as usize);
    let entry = entry.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(permits(entry))
}

/// The entries of a domain's grant table.
fn table(domid: DomId) -> io::Result<Vec<u8>> {
    let frames = frames(domid)?;
    let file = sys::open("/dev/xen/privcmd")?;
    let area = Area::map(&file, 0, frames, true)?;
    let addr = area.base().as_ptr() as u64;
    // Resource 1 is the grant table, id 0 its shared frames.
    let mut arg = PrivcmdResource {
        dom: domid,
        kind: 1,
        id: 0,
        idx: 0,
        num: frames as u64,
        addr,
    };
    sys::ioctl(&file, &mut arg)?;
    let mut table = vec![0; frames * PAGE_SIZE];
    Pages::new(area, false).read(0, &mut table);
    Ok(table)
}

/// Whether Xen has anything of a domain: XENMEM_current_reservation.
///
/// One that has been destroyed exists as long as somebody has pages of it mapped.
///
/// # Errors
/// EPERM outside dom0.
pub fn exists(domid: DomId) -> io::Result<bool> {
    const MEMORY_OP: u64 = 12;
    const CURRENT_RESERVATION: u64 = 3;
    let args = |addr| [CURRENT_RESERVATION, addr, 0, 0, 0];
    match hypercall(MEMORY_OP, domid.into(), args) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(e) => Err(e),
    }
}

/// How many frames the domain's grant table has: GNTTABOP_query_size.
fn frames(domid: DomId) -> io::Result<usize> {
    const GRANT_TABLE_OP: u64 = 20;
    const QUERY_SIZE: u64 = 6;
    // struct gnttab_query_size: domid, nr_frames, max_nr_frames, status.
    let args = |addr| [QUERY_SIZE, addr, 1, 0, 0];
    let page = hypercall(GRANT_TABLE_OP, domid.into(), args)?;
    match page.load(12) as u16 as i16 {
        0 => Ok(page.load(4) as usize),
        status => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("grant table of domain {domid}: status {status}"),
        )),
    }
}

/// Calls Xen with `args`, given the address of a page that begins with `first`; the page afterwards.
fn hypercall(op: u64, first: u32, args: impl FnOnce(u64) -> [u64; 5]) -> io::Result<Pages> {
    // A hypercall's argument must stay in memory; this device's pages do.
    let buffer = Area::map(&sys::open("/dev/xen/hypercall")?, 0, 1, true)?;
    let arg = args(buffer.base().as_ptr() as u64);
    let page = Pages::new(buffer, true);
    page.store(0, first);
    let file = sys::open("/dev/xen/privcmd")?;
    sys::ioctl(&file, &mut PrivcmdHypercall { op, arg })?;
    Ok(page)
}

/// Whether an entry is in use, by GTF_type_mask: 0 is an invalid (free) one.
fn permits(entry: &[u8]) -> bool {
    entry[0] & 3 != 0
}

/// Counts the entries of a table.
fn count(table: &[u8]) -> BTreeMap<DomId, Grants> {
    let mut all = BTreeMap::<DomId, Grants>::new();
    for entry in table.chunks_exact(ENTRY) {
        let flags = u16::from_le_bytes([entry[0], entry[1]]);
        let domid = u16::from_le_bytes([entry[2], entry[3]]);
        if !permits(entry) {
            continue;
        }
        let to = all.entry(domid).or_default();
        to.granted += 1;
        // GTF_reading, GTF_writing.
        to.mapped += u32::from(flags & 0x18 != 0);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_by_domain() {
        let mut table = vec![0; 4 * ENTRY];
        table[0..4].copy_from_slice(&[0x19, 0, 0, 0]); // to 0, read and written
        table[8..12].copy_from_slice(&[0x01, 0, 0, 0]); // to 0, idle
        table[16..20].copy_from_slice(&[0x08, 0, 7, 0]); // free
        table[24..28].copy_from_slice(&[0x0d, 0, 7, 0]); // to 7, read-only, read
        let all = count(&table);
        assert_eq!(
            all[&0],
            Grants {
                granted: 2,
                mapped: 1
            }
        );
        assert_eq!(
            all[&7],
            Grants {
                granted: 1,
                mapped: 1
            }
        );
        assert_eq!(all.len(), 2);
    }
}
