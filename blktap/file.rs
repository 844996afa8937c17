// SPDX-License-Identifier: GPL-2.0

//! An open file of `/dev/blktap`: its ioctls, and what it has attached to.

use crate::{
    chardev::{self, User},
    shared::Shared,
    tap::{Attachment, Tap, Wish},
    taps,
};
use core::sync::atomic::{AtomicU32, Ordering};
use kernel::{
    bindings::{EISCONN, ENOTCONN, EPROTO},
    ioctl::{_IOW, _IOWR},
    new_mutex,
    sync::{poll::PollCondVar, Mutex, SetOnce},
};
use xenbus::{
    prelude::*,
    protocol::{
        tap::{
            ioctl::{self, set, Attach, Geometry, Info, QueueInfo, Set},
            Mode, Policy, State, VERSION,
        },
        tapped::check_geometry,
    },
    region::Region,
};

const TYPE: u32 = ioctl::TYPE as u32;
const ATTACH: u32 = _IOWR::<Attach>(TYPE, ioctl::ATTACH as u32);
const KICK: u32 = _IOW::<u64>(TYPE, ioctl::KICK as u32);
const INFO: u32 = _IOWR::<Info>(TYPE, ioctl::INFO as u32);
const QUEUE_INFO: u32 = _IOWR::<QueueInfo>(TYPE, ioctl::QUEUE_INFO as u32);
const SET: u32 = _IOW::<Set>(TYPE, ioctl::SET as u32);
const SET_GEOMETRY: u32 = _IOW::<Geometry>(TYPE, ioctl::SET_GEOMETRY as u32);

/// The bits of `poll(2)`.
const POLLIN: u32 = 0x1;
const POLLPRI: u32 = 0x2;
const POLLERR: u32 = 0x8;
const POLLHUP: u32 = 0x10;
const POLLRDNORM: u32 = 0x40;

/// An error that the `kernel` crate has no name for.
fn errno(number: u32) -> Error {
    Error::from_errno((number as i32).wrapping_neg())
}

/// An open file.
#[pin_data]
pub(crate) struct File {
    attachment: SetOnce<Attachment>,
    /// One `ATTACH` at a time.
    #[pin]
    attaching: Mutex<()>,
    /// What the program knows of the disk.
    seen: AtomicU32,
}

impl File {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(File {
                attachment: SetOnce::new(),
                attaching <- new_mutex!(()),
                seen: AtomicU32::new(0),
            }),
            GFP_KERNEL,
        )
    }

    /// An ioctl. `nonblock`: it is not to wait for a disk. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for one that there is not, `EFAULT`, and those of each.
    pub(crate) fn ioctl(&self, command: u32, arg: usize, nonblock: bool) -> Result {
        match command {
            KICK => self.attachment()?.kick(u64::get(arg)?),
            ATTACH => {
                let mut it = Attach::get(arg)?;
                let result = self.attach(&mut it, nonblock);
                // Also the version, if it is not the same.
                if result.is_ok() || result == Err(errno(EPROTO)) {
                    it.put(arg)?;
                }
                return result;
            }
            INFO => {
                let it = self.info(&Info::get(arg)?)?;
                it.put(arg)?;
            }
            QUEUE_INFO => {
                let it = self.queue_info(&QueueInfo::get(arg)?)?;
                it.put(arg)?;
            }
            SET => return self.set(&Set::get(arg)?),
            SET_GEOMETRY => {
                let it = Geometry::get(arg)?;
                let tap = self.tap()?;
                if !check_geometry(&it) {
                    return Err(EINVAL);
                }
                tap.set_geometry(&it)?;
            }
            _ => return Err(ENOTTY),
        }
        Ok(())
    }

    /// The tap that this file is attached to.
    fn tap(&self) -> Result<&Arc<Tap>> {
        Ok(&self.attachment()?.tap)
    }

    fn attachment(&self) -> Result<&Attachment> {
        self.attachment.as_ref().ok_or(errno(ENOTCONN))
    }

    fn attach(&self, it: &mut Attach, nonblock: bool) -> Result {
        let version = core::mem::replace(&mut it.version, VERSION);
        if version != VERSION {
            return Err(errno(EPROTO));
        }
        if it.reserved != 0 || it.flags & !(ioctl::WAIT | ioctl::NO_DATA | ioctl::POLLS) != 0 {
            return Err(EINVAL);
        }
        // Not waited for: the other one may wait for a disk.
        let _one = self.attaching.try_lock().ok_or(EBUSY)?;
        if self.attachment.as_ref().is_some() {
            return Err(errno(EISCONN));
        }
        // Before a tap is made for it.
        let wish = Wish::read(it)?;
        let wait = it.flags & ioctl::WAIT != 0;
        let bell = taps::bell()?;
        let attachment = loop {
            let before = bell.rung();
            let attached = match blkback::tap::find(it.domid, it.handle) {
                None => Err(ENODEV),
                Some(slot) => taps::find_or_make(&slot).and_then(|tap| tap.attach(&wish, it)),
            };
            match attached {
                Ok(attachment) => break attachment,
                Err(e) if !wait || (e != ENODEV && e != EBUSY) => return Err(e),
                Err(_) if nonblock => return Err(EAGAIN),
                Err(_) => bell.wait(before)?,
            }
        };
        // There is nobody else to do so.
        self.attachment.populate(attachment);
        Ok(())
    }

    fn info(&self, it: &Info) -> Result<Info> {
        if it.flags & !ioctl::NEXT != 0 {
            return Err(EINVAL);
        }
        if let Some(attachment) = self.attachment.as_ref() {
            let shared = attachment.tap.shared();
            self.seen.store(shared.changes(), Ordering::Relaxed);
            return Ok(attachment.tap.info());
        }
        let tap = match it.flags & ioctl::NEXT {
            0 => taps::find(it.domid, it.handle),
            _ => taps::after(it.domid, it.handle),
        };
        Ok(tap.ok_or(ENOENT)?.info())
    }

    fn queue_info(&self, it: &QueueInfo) -> Result<QueueInfo> {
        match self.attachment.as_ref() {
            Some(attachment) => attachment.tap.queue_info(it.queue),
            None => taps::find(it.domid, it.handle)
                .ok_or(ENOENT)?
                .queue_info(it.queue),
        }
    }

    fn set(&self, it: &Set) -> Result {
        let tap = match self.attachment.as_ref() {
            Some(attachment) => attachment.tap.clone(),
            None if !chardev::is_admin() => return Err(EPERM),
            None => taps::find(it.domid, it.handle).ok_or(ENOENT)?,
        };
        match it.what {
            set::MODE => tap.switch(Mode::from_number(it.value).ok_or(EINVAL)?),
            set::POLICY => {
                tap.set_policy(Policy::from_number(it.value).ok_or(EINVAL)?);
                Ok(())
            }
            set::REMOVE if it.value == 0 => tap.remove(),
            _ => Err(EINVAL),
        }
    }

    /// The region, and its first page, that `pages` pages at the offset `page` of the file are.
    ///
    /// # Errors
    ///
    /// `ENOTCONN` when it is not attached, `EINVAL` when they are not in one region.
    pub(crate) fn region(&self, page: usize, pages: usize) -> Result<(&Region, usize)> {
        let attachment = self.attachment()?;
        let size = attachment.regions.first().ok_or(EINVAL)?.pages();
        let index = page.checked_div(size).ok_or(EINVAL)?;
        let region = attachment.regions.get(index).ok_or(EINVAL)?;
        let first = page.wrapping_sub(index.wrapping_mul(size));
        match first.checked_add(pages) {
            Some(end) if end <= size => Ok((region, first)),
            _ => Err(EINVAL),
        }
    }

    /// Where whoever polls the file waits.
    pub(crate) fn poll_wait(&self) -> Option<&PollCondVar> {
        Some(&self.attachment.as_ref()?.tap.shared().poll)
    }

    /// What there is to be polled, by one who wants to know of `wanted`. Sleeps.
    pub(crate) fn poll(&self, wanted: u32) -> u32 {
        let Some(attachment) = self.attachment.as_ref() else {
            return POLLERR;
        };
        if wanted & (POLLIN | POLLRDNORM) != 0 {
            // Another one would not be told of what that brings.
            attachment.poll();
        }
        let shared = attachment.tap.shared();
        let mut events = 0;
        if attachment.has_work() {
            events |= POLLIN | POLLRDNORM;
        }
        if self.seen.load(Ordering::Relaxed) != shared.changes() {
            events |= POLLPRI;
        }
        match Shared::state(&shared.control.lock()) {
            State::Gone => events | POLLHUP,
            State::Broken => events | POLLERR,
            _ => events,
        }
    }
}
