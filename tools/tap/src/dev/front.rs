// SPDX-License-Identifier: GPL-2.0
//! A [`Disk`](crate::Disk) as the guest's disk.

use super::below::{is_barrier, Below};
use super::queue::{broken, Queue};
use crate::log::Log;
use crate::rt::{self, Notify};
use crate::{AnyDisk, Buf};
use protocol::tap::{op, status, Request, Response, SECTOR_SIZE};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// What the queues of a thread have in common.
pub(crate) struct Front {
    pub(crate) below: Option<Below>,
    pub(crate) log: Log,
    /// There from when the chain is open until the end: requests are taken meanwhile.
    disk: RefCell<Option<AnyDisk>>,
    /// The guest's requests that are under way.
    busy: Cell<u32>,
    changed: Notify,
    bell: Notify,
}

impl Front {
    /// `bell` is that of the queues' door.
    pub(crate) fn new(below: Option<Below>, log: Log, bell: &Notify) -> Rc<Self> {
        Rc::new(Self {
            below,
            log,
            disk: RefCell::default(),
            busy: Cell::new(0),
            changed: Notify::new(),
            bell: bell.clone(),
        })
    }

    /// Requests are served by `disk` from now on.
    pub(crate) fn start(&self, disk: &AnyDisk) {
        *self.disk.borrow_mut() = Some(disk.clone());
        self.bell.notify();
    }

    /// Takes no further requests, and waits for those that are under way.
    pub(crate) async fn finish(&self) {
        self.disk.take();
        let idle = || (self.busy.get() == 0).then_some(());
        self.changed.until(idle).await
    }

    /// Looks after a queue, until its rings are broken.
    pub(crate) async fn run(self: Rc<Self>, queue: Rc<Queue>) -> io::Result<()> {
        loop {
            while let Some(response) = queue.response()? {
                if let Some(below) = &self.below {
                    below.done(&response);
                }
            }
            let disk = self.disk.borrow().clone();
            let takes = disk.is_some();
            if let Some(disk) = disk {
                while let Some(request) = queue.request()? {
                    self.take(&queue, &disk, request)?;
                }
            }
            if !queue.final_check(takes)? {
                self.bell.notified().await;
            }
        }
    }

    /// Starts to serve a request.
    fn take(
        self: &Rc<Self>,
        queue: &Rc<Queue>,
        disk: &AnyDisk,
        request: Request,
    ) -> io::Result<()> {
        let mut lent = None;
        if matches!(request.op, op::READ | op::WRITE) {
            let len = (request.nr_sectors as usize).saturating_mul(SECTOR_SIZE);
            let piece = queue.region.guests(&request, queue.guest_bytes, len);
            lent = Some(piece.ok_or_else(|| broken(request))?);
        }
        let (front, queue, disk) = (self.clone(), queue.clone(), disk.clone());
        self.busy.set(self.busy.get() + 1);
        rt::spawn(async move {
            let status = match lent {
                None => front.serve(&disk, &request, &mut Buf::default()).await,
                Some((piece, mut buf)) => {
                    let status = front.serve(&disk, &request, &mut buf).await;
                    drop(buf);
                    // Somebody gave up waiting for an operation that still uses the memory.
                    while !piece.is_back() {
                        rt::sleep(Duration::from_millis(1)).await;
                    }
                    status
                }
            };
            queue.answer(&Response {
                id: request.id,
                op: request.op,
                flags: 0,
                status,
            });
            front.busy.set(front.busy.get() - 1);
            if front.busy.get() == 0 {
                front.changed.notify();
            }
        })
        .detach();
        Ok(())
    }

    async fn serve(&self, disk: &AnyDisk, request: &Request, buf: &mut Buf) -> i16 {
        let at = request.sector.saturating_mul(SECTOR_SIZE as u64);
        let result = match request.op {
            op::READ => disk.read(at, buf).await,
            op::WRITE if is_barrier(request) => match disk.flush().await {
                Ok(()) => disk.write(at, buf, true).await,
                error => error,
            },
            op::WRITE => disk.write(at, buf, false).await,
            op::FLUSH => disk.flush().await,
            op::DISCARD => {
                let len = request.nr_sectors.saturating_mul(SECTOR_SIZE as u64);
                disk.discard(at, len).await
            }
            _ => return status::EOPNOTSUPP,
        };
        match result {
            Ok(()) => status::OKAY,
            Err(error) => {
                self.log.error(name(request.op), &error);
                match error.kind() {
                    io::ErrorKind::Unsupported => status::EOPNOTSUPP,
                    _ => status::ERROR,
                }
            }
        }
    }
}

fn name(op: u8) -> &'static str {
    match op {
        op::READ => "read",
        op::WRITE => "write",
        op::FLUSH => "flush",
        _ => "discard",
    }
}
