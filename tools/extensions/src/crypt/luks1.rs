// SPDX-License-Identifier: GPL-2.0
//! The header of LUKS1: 592 bytes, big-endian.

use super::luks::{bad, Check, Hash, Header, Kdf, Slot};
use std::io;

const ACTIVE: u32 = 0x00ac_71f3;
const SLOTS: usize = 208;

pub fn parse(bytes: &[u8]) -> io::Result<Header> {
    let number = |at: usize| -> io::Result<u32> {
        let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
        Ok(u32::from_be_bytes(
            *bytes.ok_or_else(|| bad("a header cut short"))?,
        ))
    };
    let slice = |at: usize, len: usize| {
        let bytes = bytes.get(at..at + len);
        bytes.ok_or_else(|| bad("a header cut short"))
    };
    let text = |at| -> io::Result<String> {
        let bytes = slice(at, 32)?.split(|byte| *byte == 0).next();
        Ok(String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned())
    };
    let (cipher, mode) = (text(8)?, text(40)?);
    if (cipher.as_str(), mode.as_str()) != ("aes", "xts-plain64") {
        return Err(bad(format!("the cipher {cipher}-{mode} is not known here")));
    }
    let hash = Hash::named(&text(72)?)?;
    let key = number(108)? as usize;
    let check = Check {
        hash,
        digest: slice(112, 20)?.to_vec(),
        salt: slice(132, 32)?.to_vec(),
        iterations: number(164)?,
    };
    let mut slots = Vec::new();
    for index in 0..8 {
        let at = SLOTS + index * 48;
        if number(at)? != ACTIVE {
            continue;
        }
        slots.push(Slot {
            name: index.to_string(),
            kdf: Kdf::Pbkdf2 {
                hash,
                iterations: number(at + 4)?,
                salt: slice(at + 8, 32)?.to_vec(),
            },
            key,
            area_key: key,
            area: u64::from(number(at + 40)?) * 512,
            stripes: number(at + 44)? as usize,
            hash,
            check: check.clone(),
        });
    }
    Ok(Header {
        offset: u64::from(number(104)?) * 512,
        size: None,
        sector: 512,
        tweak: 0,
        slots,
    })
}
