// SPDX-License-Identifier: GPL-2.0
//! Operations of the thread's io_uring.

use super::buf::Buf;
use super::uring::{Hold, Op};
use io_uring::opcode;
use io_uring::squeue::Entry;
use io_uring::types::{self, Timespec};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// An open file that operations keep open.
pub type Fd = Rc<OwnedFd>;

fn length(len: usize) -> u32 {
    // The kernel does at most so much at once anyway.
    len.min(1 << 30) as u32
}

/// Fills `buf` by the operation that `entry` makes for a pointer and a length.
async fn fill(
    fd: &Fd,
    buf: &mut Buf,
    entry: impl FnOnce(*mut u8, u32) -> Entry,
) -> io::Result<usize> {
    let mut taken = mem::take(buf);
    let entry = entry(taken.as_mut_ptr(), length(taken.len()));
    // SAFETY: the memory is that of `taken`, which nobody else has.
    let (result, hold) = unsafe { Op::new(entry, Hold::Fill(taken), Some(fd)) }.await;
    if let Hold::Fill(taken) = hold {
        *buf = taken;
    }
    result.map(|done| done as usize)
}

/// As [`fill`], for an operation that reads the memory.
async fn drain(
    fd: &Fd,
    buf: &Buf,
    entry: impl FnOnce(*const u8, u32) -> Entry,
) -> io::Result<usize> {
    let shared = buf.share();
    let entry = entry(shared.as_ptr(), length(shared.len()));
    // SAFETY: the memory is that of `shared`, and is only read.
    let (result, _) = unsafe { Op::new(entry, Hold::Read(shared), Some(fd)) }.await;
    result.map(|done| done as usize)
}

pub(super) async fn plain(fd: Option<&Fd>, entry: Entry) -> io::Result<u32> {
    // SAFETY: callers pass entries that point at nothing.
    unsafe { Op::new(entry, Hold::Nothing, fd) }.await.0
}

/// `pread(2)`: how much was read; less than `buf` has at the end, or at the medium's whim.
pub async fn read_at(fd: &Fd, buf: &mut Buf, at: u64) -> io::Result<usize> {
    let file = types::Fd(fd.as_raw_fd());
    let uring = crate::rt::uring();
    fill(fd, buf, |start, len| match uring.region_of(start, len) {
        Some(index) => opcode::ReadFixed::new(file, start, len, index)
            .offset(at)
            .build(),
        None => opcode::Read::new(file, start, len).offset(at).build(),
    })
    .await
}

/// `pwrite(2)`, with `RWF_DSYNC` where `dsync`: how much was written.
pub async fn write_at(fd: &Fd, buf: &Buf, at: u64, dsync: bool) -> io::Result<usize> {
    let file = types::Fd(fd.as_raw_fd());
    let flags = if dsync { libc::RWF_DSYNC } else { 0 };
    let uring = crate::rt::uring();
    drain(fd, buf, |start, len| match uring.region_of(start, len) {
        Some(index) => opcode::WriteFixed::new(file, start, len, index)
            .offset(at)
            .rw_flags(flags)
            .build(),
        None => opcode::Write::new(file, start, len)
            .offset(at)
            .rw_flags(flags)
            .build(),
    })
    .await
}

/// `recv(2)`: how many bytes came; 0 at the end.
pub async fn recv(fd: &Fd, buf: &mut Buf) -> io::Result<usize> {
    let file = types::Fd(fd.as_raw_fd());
    fill(fd, buf, |start, len| {
        opcode::Recv::new(file, start, len).build()
    })
    .await
}

/// `send(2)`: how many bytes went. With `more`, others follow at once.
pub async fn send(fd: &Fd, buf: &Buf, more: bool) -> io::Result<usize> {
    let file = types::Fd(fd.as_raw_fd());
    let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
    drain(fd, buf, |start, len| {
        opcode::Send::new(file, start, len).flags(flags).build()
    })
    .await
}

/// `accept(2)`.
pub async fn accept(fd: &Fd) -> io::Result<OwnedFd> {
    let accept = opcode::Accept::new(
        types::Fd(fd.as_raw_fd()),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    );
    let new = plain(Some(fd), accept.flags(libc::SOCK_CLOEXEC).build()).await?;
    // SAFETY: a new file descriptor, which only we know of.
    Ok(unsafe { OwnedFd::from_raw_fd(new as i32) })
}

/// `fdatasync(2)`.
pub async fn sync(fd: &Fd) -> io::Result<()> {
    let sync = opcode::Fsync::new(types::Fd(fd.as_raw_fd()));
    let sync = sync.flags(types::FsyncFlags::DATASYNC).build();
    plain(Some(fd), sync).await.map(drop)
}

/// `fallocate(2)`; `mode` is of `FALLOC_FL_*`.
pub async fn allocate(fd: &Fd, mode: i32, at: u64, len: u64) -> io::Result<()> {
    let allocate = opcode::Fallocate::new(types::Fd(fd.as_raw_fd()), len);
    let allocate = allocate.offset(at).mode(mode).build();
    plain(Some(fd), allocate).await.map(drop)
}

/// `poll(2)` of one file, for `POLL*` in `events`: those that there are.
pub async fn poll(fd: &Fd, events: i16) -> io::Result<i16> {
    let poll = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), events as u16 as u32);
    Ok(plain(Some(fd), poll.build()).await? as i16)
}

/// Waits so long.
pub async fn sleep(time: Duration) {
    let time = Box::new(Timespec::from(time));
    let timeout = opcode::Timeout::new(&*time).build();
    // SAFETY: the box stays where it is when it is moved.
    let _ = unsafe { Op::new(timeout, Hold::Time(time), None) }.await;
}
