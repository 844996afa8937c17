// SPDX-License-Identifier: GPL-2.0
//! The ioctls of `/dev/blktap`.

use protocol::tap::ioctl::{self, Attach, Geometry, Info, QueueInfo, Set};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::AsRawFd;

/// What an ioctl takes, and its number.
///
/// # Safety
/// The kernel reads and writes the structure's own bytes only, all of which may have any value.
pub(crate) unsafe trait Argument: Sized {
    const NUMBER: libc::c_ulong;
}

/// `_IOC`, as `asm-generic/ioctl.h` has it.
const fn number(dir: libc::c_ulong, nr: u8, size: usize) -> libc::c_ulong {
    (dir << 30)
        | ((size as libc::c_ulong) << 16)
        | ((ioctl::TYPE as libc::c_ulong) << 8)
        | nr as libc::c_ulong
}

const WRITE: libc::c_ulong = 1;
const READ: libc::c_ulong = 2;

macro_rules! arguments {
    ($($type:ty = $dir:expr, $nr:expr;)*) => {
        $(
            // SAFETY: integers without holes; the number tells their size to the kernel.
            unsafe impl Argument for $type {
                const NUMBER: libc::c_ulong = number($dir, $nr, size_of::<$type>());
            }
        )*
    };
}

arguments! {
    Attach = READ | WRITE, ioctl::ATTACH;
    u64 = WRITE, ioctl::KICK;
    Info = READ | WRITE, ioctl::INFO;
    QueueInfo = READ | WRITE, ioctl::QUEUE_INFO;
    Set = WRITE, ioctl::SET;
    Geometry = WRITE, ioctl::SET_GEOMETRY;
}

/// Does the ioctl that `argument` is for.
pub(crate) fn call<A: Argument>(file: &File, argument: &mut A) -> io::Result<()> {
    // SAFETY: a structure as the number says, by the trait.
    match unsafe { libc::ioctl(file.as_raw_fd(), A::NUMBER, argument as *mut A) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
