// SPDX-License-Identifier: GPL-2.0
//! A disk as a block device of this machine, by ublk (`Documentation/block/ublk.rst` of Linux).
//!
//! One queue, served by the calling thread. Data is copied by `pread` and `pwrite` of the device's
//! character device (`UBLK_F_USER_COPY`, Linux 6.5), so that the kernel uses no memory of ours.

use crate::log::Log;
use crate::nbd::proto::errno;
use crate::rt::{self, Either, Fd, Flag};
use crate::sys::ublk::{self, Command, Control, Description, Descriptions};
use crate::{AnyDisk, Buf, Info};
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

const CONTROL: &str = "/dev/ublk-control";

/// Requests at the same time.
const DEPTH: u16 = 64;

/// Bytes of data in a request.
const MAX_DATA: u32 = 1 << 20;

/// Sectors of a discard, and of a write of zeroes, which a disk may write one by one.
const MAX_DISCARD: u32 = 1 << 22;
const MAX_ZEROES: u32 = 1 << 17;

/// Numbers of linux/ublk_cmd.h.
mod number {
    pub const CMD_IOCTL_ENCODE: u64 = 1 << 6;
    pub const USER_COPY: u64 = 1 << 7;

    pub const PARAM_BASIC: u32 = 1 << 0;
    pub const PARAM_DISCARD: u32 = 1 << 1;
    pub const READ_ONLY: u32 = 1 << 0;
    pub const VOLATILE_CACHE: u32 = 1 << 2;
    pub const FUA: u32 = 1 << 3;

    pub const OP_READ: u32 = 0;
    pub const OP_WRITE: u32 = 1;
    pub const OP_FLUSH: u32 = 2;
    pub const OP_DISCARD: u32 = 3;
    pub const OP_WRITE_ZEROES: u32 = 5;
    pub const IO_FUA: u32 = 1 << 13;
    pub const IO_BUF: u64 = 0x8000_0000;
}

/// Serves `disk` as a block device, of which `ready` is told the path, until `stop` is ready. The
/// disk is neither flushed nor closed.
///
/// # Errors
/// That the kernel has no ublk, or refuses; a device that is lost.
pub async fn serve(
    disk: AnyDisk,
    log: Log,
    ready: impl FnOnce(&str),
    stop: impl Future,
) -> io::Result<()> {
    let mut device = device_info();
    command(Command::Add, u32::MAX, &mut device, 0)?;
    let id = u32::from_ne_bytes([device[12], device[13], device[14], device[15]]);
    let described = command(Command::SetParams, id, &mut params(&disk.info()), 0);
    let served = match described {
        Ok(()) => run(disk, log, id, ready, stop).await,
        error => error,
    };
    // Returns when nobody has the character device open.
    served.and(command(Command::Delete, id, &mut [], 0))
}

async fn run(
    disk: AnyDisk,
    log: Log,
    id: u32,
    ready: impl FnOnce(&str),
    stop: impl Future,
) -> io::Result<()> {
    let queue = Rc::new(Queue::open(id, disk, log).await?);
    let tags: Vec<_> = (0..DEPTH)
        .map(|tag| rt::spawn(queue.clone().serve(tag)))
        .collect();
    let lost = || io::Error::other("ublk: the device is lost");
    let pid = u64::from(std::process::id());
    // It waits until requests are asked for with all tags.
    let result = match rt::race(beside(Command::Start, id, pid), queue.lost.wait()).await {
        Either::First(Ok(())) => {
            ready(&format!("/dev/ublkb{id}"));
            match rt::race(stop, queue.lost.wait()).await {
                Either::First(_) => Ok(()),
                Either::Second(()) => Err(lost()),
            }
        }
        Either::First(error) => error,
        Either::Second(()) => Err(lost()),
    };
    // It waits for requests that are under way.
    let stopped = beside(Command::Stop, id, 0).await;
    for tag in tags {
        tag.await;
    }
    result.and(stopped)
}

/// A command beside the tasks of this thread.
async fn beside(command: Command, id: u32, value: u64) -> io::Result<()> {
    let done = Flag::default();
    let flag = done.clone();
    let work = thread::spawn(move || {
        let result = self::command(command, id, &mut [], value);
        flag.set();
        result
    });
    done.wait().await;
    let panicked = |_| Err(io::Error::other("a thread has panicked"));
    work.join().unwrap_or_else(panicked)
}

/// Each has a control device of its own: one may wait for another.
fn command(command: Command, id: u32, data: &mut [u8], value: u64) -> io::Result<()> {
    let done = control()?.command(command, id, data, value);
    done.map_err(|error| io::Error::new(error.kind(), format!("ublk: {command:?}: {error}")))
}

fn control() -> io::Result<Control> {
    let file = OpenOptions::new().read(true).write(true).open(CONTROL);
    let file = file.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; is the module loaded? `modprobe ublk_drv`",
            io::ErrorKind::PermissionDenied => "; this needs root",
            _ => "",
        };
        io::Error::new(error.kind(), format!("{CONTROL}: {error}{hint}"))
    })?;
    Control::new(file)
}

/// `struct ublksrv_ctrl_dev_info` of a new device.
fn device_info() -> [u8; 64] {
    let mut info = [0; 64];
    info[..2].copy_from_slice(&1u16.to_ne_bytes()); // nr_hw_queues
    info[2..4].copy_from_slice(&DEPTH.to_ne_bytes());
    info[8..12].copy_from_slice(&MAX_DATA.to_ne_bytes());
    info[12..16].copy_from_slice(&u32::MAX.to_ne_bytes()); // dev_id: any
    info[16..20].copy_from_slice(&std::process::id().to_ne_bytes());
    let flags = number::CMD_IOCTL_ENCODE | number::USER_COPY;
    info[24..32].copy_from_slice(&flags.to_ne_bytes());
    info
}

/// The beginning of `struct ublk_params`, as far as it is of use.
fn params(info: &Info) -> [u8; 60] {
    let mut params = [0; 60];
    let mut put = |at: usize, bytes: &[u8]| params[at..][..bytes.len()].copy_from_slice(bytes);
    put(0, &60u32.to_ne_bytes());
    put(
        4,
        &(number::PARAM_BASIC | number::PARAM_DISCARD).to_ne_bytes(),
    );
    let read_only = if info.read_only { number::READ_ONLY } else { 0 };
    let attributes = number::VOLATILE_CACHE | number::FUA | read_only;
    put(8, &attributes.to_ne_bytes());
    let logical = info.block_size.trailing_zeros() as u8;
    let physical = info.physical_block_size.max(info.block_size);
    let physical = physical.ilog2() as u8;
    // logical, physical, io_opt, io_min
    put(12, &[logical, physical, physical, physical]);
    put(16, &(MAX_DATA / 512).to_ne_bytes());
    put(24, &(info.size / 512).to_ne_bytes());
    let granularity = info.discard_granularity.max(info.block_size);
    put(44, &granularity.to_ne_bytes());
    let discard = if info.discard { MAX_DISCARD } else { 0 };
    put(48, &discard.to_ne_bytes());
    put(52, &MAX_ZEROES.to_ne_bytes());
    put(56, &1u16.to_ne_bytes()); // max_discard_segments
    params
}

/// The device's only queue.
struct Queue {
    file: File,
    fd: Fd,
    descriptions: Descriptions,
    disk: AnyDisk,
    log: Log,
    lost: Flag,
}

impl Queue {
    async fn open(id: u32, disk: AnyDisk, log: Log) -> io::Result<Self> {
        let path = format!("/dev/ublkc{id}");
        let context = |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"));
        let mut tries = 0;
        let file = loop {
            match OpenOptions::new().read(true).write(true).open(&path) {
                // udev is at it.
                Err(_) if tries < 100 => tries += 1,
                done => break done.map_err(context)?,
            }
            rt::sleep(Duration::from_millis(20)).await;
        };
        Ok(Self {
            fd: Rc::new(file.try_clone().map_err(context)?.into()),
            descriptions: Descriptions::map(&file, DEPTH.into()).map_err(context)?,
            file,
            disk,
            log,
            lost: Flag::default(),
        })
    }

    /// Asks for requests with this tag, and answers them, until the device is stopped.
    async fn serve(self: Rc<Self>, tag: u16) {
        let mut result = None;
        loop {
            if let Err(error) = ublk::next(&self.fd, tag, result).await {
                if error.raw_os_error() != Some(libc::ENODEV) {
                    self.log.error("ublk", &error);
                    self.lost.set();
                }
                return;
            }
            let request = self.descriptions.get(tag);
            result = Some(match self.carry_out(tag, &request).await {
                Ok(done) => done as i32,
                Err(error) => {
                    self.log.error(name(&request), &error);
                    -(errno(&error) as i32)
                }
            });
        }
    }

    /// Gives how many bytes of data there were.
    async fn carry_out(&self, tag: u16, request: &Description) -> io::Result<u32> {
        let at = request.start_sector.saturating_mul(512);
        let len = u64::from(request.nr_sectors) * 512;
        let fua = request.op_flags & number::IO_FUA != 0;
        let place = number::IO_BUF + (u64::from(tag) << 25);
        match request.op_flags & 0xff {
            number::OP_READ => {
                let mut buf = Buf::new(len as usize);
                self.disk.read(at, &mut buf).await?;
                self.file.write_all_at(&buf, place)?;
                Ok(len as u32)
            }
            number::OP_WRITE => {
                let mut buf = Buf::new(len as usize);
                self.file.read_exact_at(&mut buf, place)?;
                self.disk.write(at, &buf, fua).await?;
                Ok(len as u32)
            }
            number::OP_FLUSH => self.disk.flush().await.map(|()| 0),
            number::OP_DISCARD => self.disk.discard(at, len).await.map(|()| 0),
            number::OP_WRITE_ZEROES => self.disk.write_zeroes(at, len, fua).await.map(|()| 0),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn name(request: &Description) -> &'static str {
    match request.op_flags & 0xff {
        number::OP_READ => "read",
        number::OP_WRITE => "write",
        number::OP_FLUSH => "flush",
        number::OP_DISCARD => "discard",
        number::OP_WRITE_ZEROES => "write zeroes",
        _ => "unknown request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        let info = Info {
            physical_block_size: 4096,
            discard: true,
            discard_granularity: 4096,
            ..Info::new(1 << 30)
        };
        let params = params(&info);
        assert_eq!(params[12..16], [9, 12, 12, 12]);
        assert_eq!(params[24..32], (1u64 << 21).to_ne_bytes());
        assert_eq!(params[44..48], 4096u32.to_ne_bytes());
    }
}
