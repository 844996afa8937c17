// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The number of a virtual block device, made into a name and minors.
//!
//! The key `virtual-device` of a front end holds either the device number of an old Linux disk
//! (`major << 8 | minor`, of an IDE, SCSI or Xen disk) or, with bit 28 set, `disk << 8 |
//! partition`. The names are those that the C front end gives, so that nobody's fstab breaks; all
//! disks are called `xvd…` and have the major 202.

use core::fmt;

/// Major number of Xen block devices.
pub const XENVBD_MAJOR: u32 = 202;

/// Bit that marks the extended form.
const EXTENDED: u32 = 1 << 28;

/// Minors that a disk of the old form and one of the extended form has.
const PARTS_OLD: u32 = 16;
const PARTS_EXTENDED: u32 = 256;

/// Bits of a minor number.
const MINOR_BITS: u32 = 20;

/// A block device number of which there cannot be a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadVdev(
    /// The number.
    pub u32,
);

/// What a block device is called and which minors it has, under [`XENVBD_MAJOR`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vdev {
    /// First minor.
    pub minor: u32,
    /// Number of minors: all of the disk's, or 1 if the device is a partition without its disk.
    pub minors: u32,
    /// Position of the disk: 0 for `xvda`.
    pub disk: u32,
    /// Partition number, 0 if the device is a whole disk.
    pub partition: u32,
    /// Whether the number has the extended form.
    pub extended: bool,
}

impl Vdev {
    /// Finds out what the key `virtual-device` or `virtual-device-ext` stands for.
    pub fn new(number: u32) -> Result<Self, BadVdev> {
        let extended = number & EXTENDED != 0;
        let (disk, minor, parts) = if extended {
            // What is left of a bit above is out of range below.
            let minor = number & !EXTENDED;
            (minor / PARTS_EXTENDED, minor, PARTS_EXTENDED)
        } else {
            let (disk, minor) = translate(number).ok_or(BadVdev(number))?;
            (disk, minor, PARTS_OLD)
        };
        if minor >> MINOR_BITS != 0 {
            return Err(BadVdev(number));
        }
        let partition = minor & parts.wrapping_sub(1);
        let minors = if partition == 0 { parts } else { 1 };
        Ok(Self {
            minor,
            minors,
            disk,
            partition,
            extended,
        })
    }

    /// Name in `/dev`, such as `xvda`, `xvdaa` or `xvda1`.
    pub fn name(&self) -> Name {
        let mut name = Name {
            bytes: [0; NAME_LEN],
            len: 0,
        };
        name.push(b"xvd");
        // Letters are a bijective base 26: z is followed by aa.
        let last = letter(self.disk);
        match (self.disk / 26).checked_sub(1) {
            None => name.push(&[last]),
            Some(rest) => match (rest / 26).checked_sub(1) {
                None => name.push(&[letter(rest), last]),
                Some(rest2) => name.push(&[letter(rest2), letter(rest), last]),
            },
        }
        if self.partition >= 100 {
            name.push(&[digit(self.partition / 100)]);
        }
        if self.partition >= 10 {
            name.push(&[digit(self.partition / 10)]);
        }
        if self.partition > 0 {
            name.push(&[digit(self.partition)]);
        }
        name
    }
}

/// Position and first minor of the disk that has an old device number.
fn translate(number: u32) -> Option<(u32, u32)> {
    let (major, minor) = (number >> 8, number & 0xff);
    // Disks before the first one of this major, of those that share its kind.
    let before = match major {
        // IDE: two disks a major, 64 minors each.
        3 => return Some((minor / 64, minor / 64 * PARTS_OLD)),
        22 => return Some((minor / 64 + 2, (minor / 64 + 2) * PARTS_OLD)),
        // SCSI: sixteen disks a major.
        8 => 0,
        65..=71 => (major - 64) * 16,
        128..=135 => (major - 120) * 16,
        XENVBD_MAJOR => 0,
        _ => return None,
    };
    Some((before + minor / PARTS_OLD, before * PARTS_OLD + minor))
}

/// Most bytes in a name: "xvd", three letters, three digits.
const NAME_LEN: usize = 9;

/// The name of a block device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    bytes: [u8; NAME_LEN],
    len: usize,
}

impl Name {
    /// The name, all ASCII.
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..self.len)
            .and_then(|b| core::str::from_utf8(b).ok())
            .unwrap_or("")
    }

    fn push(&mut self, part: &[u8]) {
        for byte in part {
            if let Some(to) = self.bytes.get_mut(self.len) {
                *to = *byte;
                self.len = self.len.wrapping_add(1);
            }
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Last letter of a disk's name.
fn letter(disk: u32) -> u8 {
    b'a'.wrapping_add((disk % 26) as u8)
}

/// Last digit of a number.
fn digit(number: u32) -> u8 {
    b'0'.wrapping_add((number % 10) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    fn old(major: u32, minor: u32) -> u32 {
        major * 256 + minor
    }

    fn extended(disk: u32, partition: u32) -> u32 {
        EXTENDED + disk * 256 + partition
    }

    /// Name, first minor and number of minors.
    fn vdev(number: u32) -> Option<(std::string::String, u32, u32)> {
        let vdev = Vdev::new(number).ok()?;
        Some((vdev.name().to_string(), vdev.minor, vdev.minors))
    }

    #[test]
    fn names_and_minors() {
        let cases = [
            // xvda, xvdb, xvdp, xvda1, xvdb15.
            (old(202, 0), "xvda", 0, 16),
            (old(202, 16), "xvdb", 16, 16),
            (old(202, 240), "xvdp", 240, 16),
            (old(202, 1), "xvda1", 1, 1),
            (old(202, 31), "xvdb15", 31, 1),
            // hda, hda1 (the partition is lost), hdb, hdc, hdd.
            (old(3, 0), "xvda", 0, 16),
            (old(3, 1), "xvda", 0, 16),
            (old(3, 64), "xvdb", 16, 16),
            (old(3, 255), "xvdd", 48, 16),
            (old(22, 0), "xvdc", 32, 16),
            (old(22, 64), "xvdd", 48, 16),
            // sda, sdb3, sdp, sdq, sddx (disk 127), sddy (disk 128), sdiv (disk 255).
            (old(8, 0), "xvda", 0, 16),
            (old(8, 19), "xvdb3", 19, 1),
            (old(8, 240), "xvdp", 240, 16),
            (old(65, 0), "xvdq", 256, 16),
            (old(71, 240), "xvddx", 2032, 16),
            (old(128, 0), "xvddy", 2048, 16),
            (old(135, 240), "xvdiv", 4080, 16),
            // Extended: disk 0, 25, 26, 701, 702, the last, and partitions.
            (extended(0, 0), "xvda", 0, 256),
            (extended(25, 0), "xvdz", 25 << 8, 256),
            (extended(26, 0), "xvdaa", 26 << 8, 256),
            (extended(701, 0), "xvdzz", 701 << 8, 256),
            (extended(702, 0), "xvdaaa", 702 << 8, 256),
            (extended(4095, 0), "xvdfan", 4095 << 8, 256),
            (extended(4095, 255), "xvdfan255", (1 << 20) - 1, 1),
            (extended(26, 10), "xvdaa10", (26 << 8) + 10, 1),
            (extended(0, 5), "xvda5", 5, 1),
        ];
        for (number, name, minor, minors) in cases {
            assert_eq!(
                vdev(number),
                Some((name.into(), minor, minors)),
                "{number:#x}"
            );
        }
    }

    #[test]
    fn numbers_of_no_disk() {
        for number in [
            0,
            1,
            255,
            7 << 8,
            9 << 8,
            72 << 8,
            127 << 8,
            136 << 8,
            203 << 8,
            1 << 20,
        ] {
            assert_eq!(Vdev::new(number), Err(BadVdev(number)), "{number:#x}");
        }
        for number in [
            extended(4096, 0),
            1 << 29,
            3 << 28,
            1 << 31,
            u32::MAX,
            (1 << 28) - 1,
        ] {
            assert_eq!(Vdev::new(number), Err(BadVdev(number)), "{number:#x}");
        }
    }

    #[test]
    fn names_count_like_the_alphabet() {
        // What the C front end's recursion gives.
        fn letters(disk: u32) -> std::string::String {
            let head = if disk >= 26 {
                letters(disk / 26 - 1)
            } else {
                "".into()
            };
            format!("{head}{}", char::from(b'a' + (disk % 26) as u8))
        }
        for disk in 0..4096 {
            let name = Vdev::new(extended(disk, 0)).unwrap().name();
            assert_eq!(name.as_str(), format!("xvd{}", letters(disk)));
        }
    }
}
