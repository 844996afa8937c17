// SPDX-License-Identifier: GPL-2.0
//! Records on their way into a file, which must not hold up requests.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tap::log::Log;
use tap::rt::{self, Fd, Notify};
use tap::{op, Buf};

/// Bytes that may wait. More than this is lost, and counted.
const ROOM: usize = 4 << 20;
/// Bytes that are written at once.
const MANY: usize = 256 << 10;
/// How long fewer wait.
const LAG: Duration = Duration::from_millis(100);

/// A file to which records are added.
pub struct Out {
    file: Fd,
    at: Cell<u64>,
    waiting: RefCell<Vec<u8>>,
    came: Notify,
    turn: rt::Lock<()>,
    lost: Cell<u64>,
    failed: Cell<bool>,
    log: Log,
}

impl Out {
    /// To a new file.
    pub fn new(file: std::fs::File, log: Log) -> Rc<Self> {
        Rc::new(Self {
            file: Rc::new(OwnedFd::from(file)),
            at: Cell::new(0),
            waiting: RefCell::default(),
            came: Notify::new(),
            turn: rt::Lock::new(()),
            lost: Cell::new(0),
            failed: Cell::new(false),
            log,
        })
    }

    /// Adds a record, or counts it as lost.
    pub fn add(&self, record: &[u8]) {
        let mut waiting = self.waiting.borrow_mut();
        if self.failed.get() || waiting.len() + record.len() > ROOM {
            self.lost.set(self.lost.get() + 1);
            return;
        }
        let was = waiting.len();
        waiting.extend_from_slice(record);
        if was == 0 || (was < MANY && waiting.len() >= MANY) {
            self.came.notify();
        }
    }

    /// Writes what waits.
    pub async fn drain(&self) {
        let _turn = self.turn.lock().await;
        let bytes = self.waiting.take();
        if bytes.is_empty() || self.failed.get() {
            return;
        }
        match write_all(&self.file, &Buf::copy_of(&bytes), self.at.get()).await {
            Ok(()) => self.at.set(self.at.get() + bytes.len() as u64),
            Err(error) => {
                self.failed.set(true);
                self.log.error("the trace ends here", &error);
            }
        }
    }

    /// Writes what comes, for ever.
    pub async fn run(self: Rc<Self>) {
        loop {
            let have = || self.waiting.borrow().len();
            self.came.until(|| (have() > 0).then_some(())).await;
            let many = self.came.until(|| (have() >= MANY).then_some(()));
            rt::timeout(LAG, many).await;
            self.drain().await;
            let lost = self.lost.take();
            if lost > 0 && !self.failed.get() {
                self.log.error(
                    "trace",
                    &format!("{lost} records are lost: its file is too slow"),
                );
            }
        }
    }
}

/// `pwrite` of all of `buf`.
pub async fn write_all(file: &Fd, buf: &Buf, at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match op::write_at(file, &buf.part(done..), at + done as u64, false).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            more => done += more,
        }
    }
    Ok(())
}
