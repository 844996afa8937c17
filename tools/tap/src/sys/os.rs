// SPDX-License-Identifier: GPL-2.0
//! The few other system calls.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// An event counter, which one thread waits for and others raise.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: it takes two numbers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    owned(fd)
}

fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Keeps `signals` from this thread, and those that it will start, and makes a file of which they
/// are read instead.
pub fn signals(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: a set of bits; `sigemptyset` makes a valid one of it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is ours; the calls only write to it, or read it.
    unsafe {
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        owned(libc::signalfd(-1, &set, libc::SFD_CLOEXEC))
    }
}

/// Leaves the session, and so the terminal, of whoever has started us.
pub(crate) fn new_session() -> io::Result<()> {
    // SAFETY: it takes nothing.
    match unsafe { libc::setsid() } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes of a logical and of a physical block of a block device.
pub(crate) fn block_sizes(file: &impl AsRawFd) -> io::Result<(u32, u32)> {
    let mut logical: libc::c_int = 0;
    let mut physical: libc::c_uint = 0;
    const BLKSSZGET: libc::c_ulong = 0x1268;
    const BLKPBSZGET: libc::c_ulong = 0x127b;
    // SAFETY: each writes an int.
    let failed = unsafe {
        libc::ioctl(file.as_raw_fd(), BLKSSZGET, &mut logical) < 0
            || libc::ioctl(file.as_raw_fd(), BLKPBSZGET, &mut physical) < 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok((logical as u32, physical))
}
