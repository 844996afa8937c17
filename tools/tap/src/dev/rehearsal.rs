// SPDX-License-Identifier: GPL-2.0
//! A guest and a disk without a kernel.

use super::hooks::{Hook, VirtualDisk, Way};
use crate::rt::{self, Notify};
use protocol::tap::{flag, Request, Response, NO_DATA};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

/// What hooks are tested with: a guest that asks, and a disk that answers when it is told to.
pub struct Rehearsal {
    disk: VirtualDisk,
    heard: Rc<Heard>,
}

#[derive(Default)]
struct Heard {
    /// The guest's, by their numbers.
    sent: RefCell<Vec<Request>>,
    asked: RefCell<Vec<Asked>>,
    answers: RefCell<HashMap<u32, i16>>,
    changed: Notify,
}

/// What has got to the disk.
struct Asked {
    request: Request,
    /// The disk is to answer the guest by itself.
    passed: bool,
}

impl Heard {
    fn ask(&self, request: Request, passed: bool) {
        self.asked.borrow_mut().push(Asked { request, passed });
        self.changed.notify();
    }

    fn tell(&self, id: u32, status: i16) {
        let old = self.answers.borrow_mut().insert(id, status);
        assert_eq!(old, None, "request {id} is answered twice");
        self.changed.notify();
    }
}

impl Way for Heard {
    fn number(&self) -> u32 {
        0
    }
    fn submit(&self, request: &Request) -> bool {
        self.ask(*request, false);
        true
    }
    fn answer(&self, response: &Response) {
        if response.flags & flag::PASS == 0 {
            return self.tell(response.id, response.status);
        }
        let sent = self.sent.borrow().get(response.id as usize).copied();
        self.ask(sent.expect("the guest has asked for that"), true);
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
        }
    }

    /// The guest asks; the request's number. `op` is of [`op`](super::op), `flags` of
    /// [`flag`](super::flag).
    pub fn ask(&self, op: u8, flags: u8, sector: u64, nr_sectors: u64) -> u32 {
        let id = self.heard.sent.borrow().len() as u32;
        let request = Request {
            id,
            op,
            flags,
            sector,
            nr_sectors,
            data: NO_DATA,
            guest: id,
        };
        self.heard.sent.borrow_mut().push(request);
        self.disk.came(request, self.heard.clone());
        id
    }

    /// What has got to the disk, and is not answered. `guest` is the number of the guest's request.
    pub fn asked(&self) -> Vec<Request> {
        let asked = self.heard.asked.borrow();
        asked.iter().map(|asked| asked.request).collect()
    }

    /// The disk answers all that it was asked, with one of [`status`](super::status).
    pub fn reply(&self, status: i16) {
        for Asked { request, passed } in self.heard.asked.take() {
            if passed {
                self.heard.tell(request.guest, status);
                continue;
            }
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
