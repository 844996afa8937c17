// SPDX-License-Identifier: GPL-2.0
//! A guest and a disk without a kernel.

use super::hooks::{Hook, VirtualDisk, Way};
use crate::rt::{self, Notify};
use protocol::tap::{Request, Response, NO_DATA};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// What hooks are tested with: a guest that asks, and a disk that answers when it is told to.
pub struct Rehearsal {
    disk: VirtualDisk,
    heard: Rc<Heard>,
    next: Cell<u32>,
}

#[derive(Default)]
struct Heard {
    asked: RefCell<Vec<Request>>,
    answers: RefCell<HashMap<u32, i16>>,
    changed: Notify,
}

impl Way for Heard {
    fn number(&self) -> u32 {
        0
    }
    fn submit(&self, request: &Request) -> bool {
        self.asked.borrow_mut().push(*request);
        self.changed.notify();
        true
    }
    fn answer(&self, response: &Response) {
        let old = self
            .answers
            .borrow_mut()
            .insert(response.id, response.status);
        assert_eq!(old, None, "request {} is answered twice", response.id);
        self.changed.notify();
    }
}

impl Rehearsal {
    /// The first hook is nearest to the guest.
    pub fn new(hooks: Vec<Rc<dyn Hook>>) -> Self {
        let disk = VirtualDisk::new(&Notify::new());
        disk.start(hooks);
        Self {
            disk,
            heard: Rc::default(),
            next: Cell::new(0),
        }
    }

    /// The guest asks; the request's number. `op` is of [`op`](super::op), `flags` of
    /// [`flag`](super::flag).
    pub fn ask(&self, op: u8, flags: u8, sector: u64, nr_sectors: u64) -> u32 {
        let id = self.next.replace(self.next.get() + 1);
        let request = Request {
            id,
            op,
            flags,
            sector,
            nr_sectors,
            data: NO_DATA,
            guest: 0,
        };
        self.disk.came(request, self.heard.clone());
        id
    }

    /// What has got to the disk, and is not answered. `guest` is the number of the guest's request.
    pub fn asked(&self) -> Vec<Request> {
        self.heard.asked.borrow().clone()
    }

    /// The disk answers all that it was asked, with one of [`status`](super::status).
    pub fn reply(&self, status: i16) {
        for request in self.heard.asked.take() {
            self.disk.replied(&Response {
                id: request.id,
                op: request.op,
                flags: 0,
                status,
            });
        }
    }

    /// What the guest was answered, if it was.
    pub fn answer(&self, id: u32) -> Option<i16> {
        self.heard.answers.borrow().get(&id).copied()
    }

    /// Returns when something gets to the disk or the guest.
    ///
    /// # Panics
    /// If nothing does for ten seconds.
    pub async fn changed(&self) {
        let changed = rt::timeout(Duration::from_secs(10), self.heard.changed.notified());
        changed.await.expect("nothing happens");
    }
}
