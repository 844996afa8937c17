// SPDX-License-Identifier: GPL-2.0
//! `hostile grants`: how many references a guest has granted, and how many are mapped now.

use crate::args::Args;
use crate::Result;

/// Prints `granted N mapped M`. Run in dom0.
pub(crate) fn main(mut args: Args) -> Result<u8> {
    let mut number = |what| -> Result<Option<u16>> {
        let word = args.next();
        Ok(word
            .map(|w| w.parse())
            .transpose()
            .map_err(|_| format!("bad {what}"))?)
    };
    let domid = number("DOMID")?.ok_or("grants needs a DOMID")?;
    let remote = number("REMOTE")?.unwrap_or(0);
    let grants = xen::privcmd::grants(domid)?
        .get(&remote)
        .copied()
        .unwrap_or_default();
    println!("granted {} mapped {}", grants.granted, grants.mapped);
    Ok(0)
}
