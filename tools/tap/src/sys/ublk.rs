// SPDX-License-Identifier: GPL-2.0
//! ublk: the control device's commands, and the descriptions of requests.

use super::op::{plain, Fd};
use io_uring::squeue::Entry128;
use io_uring::{cqueue, opcode, types, IoUring};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// `_IOWR('u', number, size)`
const fn iowr(number: u32, size: u32) -> u32 {
    3 << 30 | size << 16 | (b'u' as u32) << 8 | number
}

/// Commands of the control device, from linux/ublk_cmd.h. What they take has no pointers.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Command {
    Add = iowr(0x04, 32),
    Delete = iowr(0x05, 32),
    Start = iowr(0x06, 32),
    Stop = iowr(0x07, 32),
    SetParams = iowr(0x08, 32),
}

const FETCH: u32 = iowr(0x20, 16);
const COMMIT_AND_FETCH: u32 = iowr(0x21, 16);

/// Bytes of a description.
const DESCRIPTION: usize = 24;

/// `/dev/ublk-control`, whose commands go by an io_uring of their own: they have larger entries.
pub(crate) struct Control {
    file: File,
    ring: IoUring<Entry128, cqueue::Entry>,
}

impl Control {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let ring = IoUring::builder().build(4)?;
        Ok(Self { file, ring })
    }

    /// Carries out a command, of which `data` is read and written, and waits until it is done.
    pub(crate) fn command(
        &mut self,
        command: Command,
        device: u32,
        data: &mut [u8],
        value: u64,
    ) -> io::Result<()> {
        // struct ublksrv_ctrl_cmd
        let mut bytes = [0; 80];
        bytes[..4].copy_from_slice(&device.to_ne_bytes());
        bytes[4..6].copy_from_slice(&u16::MAX.to_ne_bytes());
        if !data.is_empty() {
            let len = u16::try_from(data.len()).map_err(io::Error::other)?;
            bytes[6..8].copy_from_slice(&len.to_ne_bytes());
            bytes[8..16].copy_from_slice(&(data.as_mut_ptr() as u64).to_ne_bytes());
        }
        bytes[16..24].copy_from_slice(&value.to_ne_bytes());
        let entry = opcode::UringCmd80::new(types::Fd(self.file.as_raw_fd()), command as u32);
        let entry = entry.cmd(bytes).build();
        // SAFETY: `data` is ours until the completion has come, without which we do not return.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        loop {
            if let Some(done) = self.ring.completion().next() {
                return match done.result() {
                    error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
                    _ => Ok(()),
                };
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    // The kernel may still use `data`.
                    eprintln!("ublk: {error}");
                    std::process::abort();
                }
                _ => (),
            }
        }
    }
}

/// Answers the request with this tag, if there is a result, and waits for the next one. `fd` is that
/// of a device whose data is copied by `pread` and `pwrite`. `ENODEV`: it is stopped.
pub(crate) async fn next(fd: &Fd, tag: u16, result: Option<i32>) -> io::Result<()> {
    // struct ublksrv_io_cmd: q_id, tag, result, addr
    let mut bytes = [0; 16];
    bytes[2..4].copy_from_slice(&tag.to_ne_bytes());
    bytes[4..8].copy_from_slice(&result.unwrap_or(0).to_ne_bytes());
    let command = match result {
        None => FETCH,
        Some(_) => COMMIT_AND_FETCH,
    };
    let entry = opcode::UringCmd16::new(types::Fd(fd.as_raw_fd()), command);
    plain(Some(fd), entry.cmd(bytes).build()).await.map(drop)
}

/// The descriptions of a queue's requests, which the kernel writes.
pub(crate) struct Descriptions {
    start: NonNull<u8>,
    len: usize,
    count: usize,
}

/// `struct ublksrv_io_desc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description {
    pub(crate) op_flags: u32,
    pub(crate) nr_sectors: u32,
    pub(crate) start_sector: u64,
}

impl Descriptions {
    /// Those of queue 0, which has `count` tags.
    pub(crate) fn map(file: &File, count: usize) -> io::Result<Self> {
        let len = (count * DESCRIPTION).next_multiple_of(4096);
        let (fd, flags) = (file.as_raw_fd(), libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { start, len, count })
    }

    /// That of the request with this tag, while the program has it.
    pub(crate) fn get(&self, tag: u16) -> Description {
        let tag = usize::from(tag);
        assert!(tag < self.count);
        // SAFETY: within the mapping, aligned to 8; the kernel may write meanwhile, to which a
        // volatile read of plain numbers is indifferent.
        unsafe {
            let at = self.start.as_ptr().add(tag * DESCRIPTION);
            Description {
                op_flags: at.cast::<u32>().read_volatile(),
                nr_sectors: at.cast::<u32>().add(1).read_volatile(),
                start_sector: at.cast::<u64>().add(1).read_volatile(),
            }
        }
    }
}

impl Drop for Descriptions {
    fn drop(&mut self) {
        // SAFETY: our mapping, of which nothing is left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[test]
fn numbers() {
    // As the compiler has them of linux/ublk_cmd.h.
    assert_eq!(Command::Add as u32, 0xc020_7504);
    assert_eq!(COMMIT_AND_FETCH, 0xc010_7521);
}
