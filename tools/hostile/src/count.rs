// SPDX-License-Identifier: GPL-2.0
//! `hostile grants`: how many references a guest has granted, and how many are mapped now.

use crate::args::Args;
use crate::Result;

/// Prints `granted N mapped M`. Run in dom0.
pub(crate) fn main(mut args: Args) -> Result<u8> {
    let number = |word: String, what: &str| -> Result<u16> {
        word.parse().map_err(|_| format!("bad {what}").into())
    };
    let domid = number(args.next().ok_or("grants needs a DOMID")?, "DOMID")?;
    let remote = match args.next().as_deref() {
        Some("all") => None,
        Some(word) => Some(number(word.into(), "REMOTE")?),
        None => Some(0),
    };
    let mut grants = xen::privcmd::Grants::default();
    for (domid, given) in xen::privcmd::grants(domid)? {
        if remote.is_none_or(|remote| remote == domid) {
            grants.granted += given.granted;
            grants.mapped += given.mapped;
        }
    }
    println!("granted {} mapped {}", grants.granted, grants.mapped);
    Ok(0)
}
