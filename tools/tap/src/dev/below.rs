// SPDX-License-Identifier: GPL-2.0
//! The guest's disk, as it was before the tap: the back-end ring as a [`Disk`].

use super::queue::Queue;
use crate::rt::Notify;
use crate::sys::buf::Shared;
use crate::{Buf, Disk, Info};
use protocol::tap::ioctl::{self, geometry, Geometry};
use protocol::tap::{flag, op, status, Request, Response, NO_DATA, SECTOR_SIZE};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::mem;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Data that is not in a window goes through the program's own part, in pieces of so many bytes.
const PIECE: usize = 256 << 10;

/// What a queue's own part is to have, in bytes.
pub(crate) const OWN_BYTES: u32 = 4 << 20;

/// The disk below a chain of filters. Clones are the same.
#[derive(Clone)]
pub(crate) struct Below(Rc<Inner>);

struct Inner {
    queues: Vec<Rc<Queue>>,
    info: Cell<Geometry>,
    /// How many queues the front end has connected; the disk does not look at others.
    connected: Cell<u32>,
    asked: RefCell<Table>,
    /// Free pieces of the queues' own parts, and of which queue.
    free: RefCell<Vec<(usize, Buf)>>,
    /// An answer has come, or room.
    changed: Notify,
    resized: Notify,
}

/// What was asked for, by number.
#[derive(Default)]
struct Table {
    all: Vec<Asked>,
    free: Vec<usize>,
}

#[derive(Default)]
struct Asked {
    state: State,
    hold: Hold,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Waits,
    /// Nobody wants the answer.
    Left,
    Done(i16),
}

/// The memory that the kernel uses for a request.
#[derive(Default)]
enum Hold {
    #[default]
    Nothing,
    /// The guest's part of the window, to be filled.
    Fill(Buf),
    /// The guest's part of the window, to be read.
    Read(#[allow(dead_code)] Shared),
    /// A piece of a queue's own part.
    Own(usize, Buf),
}

impl Below {
    pub(crate) fn new(queues: &[Rc<Queue>], info: &ioctl::Info) -> Self {
        let mut free = Vec::new();
        for (index, queue) in queues.iter().enumerate() {
            let own = queue.region.own(queue.guest_bytes, PIECE);
            free.extend(own.into_iter().map(|piece| (index, piece)));
        }
        Self(Rc::new(Inner {
            queues: queues.into(),
            info: Cell::new(info.geometry),
            connected: Cell::new(info.nr_connected),
            asked: RefCell::default(),
            free: RefCell::new(free),
            changed: Notify::new(),
            resized: Notify::new(),
        }))
    }

    /// The disk has changed.
    pub(crate) fn set_info(&self, info: &ioctl::Info) {
        self.0.connected.set(info.nr_connected);
        self.0.changed.notify();
        let old = self.0.info.replace(info.geometry);
        if old.sectors != info.geometry.sectors {
            self.0.resized.notify();
        }
    }

    /// An answer has come.
    pub(crate) fn done(&self, response: &Response) {
        let id = response.id as usize;
        let mut table = self.0.asked.borrow_mut();
        let (hold, waker) = match table.all.get_mut(id) {
            Some(asked) if asked.state == State::Left => (table.take(id), None),
            Some(asked) => {
                asked.state = State::Done(response.status);
                (Hold::Nothing, asked.waker.take())
            }
            None => (Hold::Nothing, None),
        };
        drop(table);
        self.give(hold);
        waker.into_iter().for_each(Waker::wake);
        self.0.changed.notify();
    }

    /// Gives back what came out of a queue's own part.
    fn give(&self, hold: Hold) {
        if let Hold::Own(index, piece) = hold {
            self.0.free.borrow_mut().push((index, piece));
            self.0.changed.notify();
        }
    }

    /// Sends a request by queue `index`, and waits for its answer. The memory is given back.
    async fn ask(&self, index: usize, request: Request, hold: Hold) -> (io::Result<()>, Hold) {
        let id = self.0.asked.borrow_mut().add(hold);
        let mut ticket = Ticket {
            below: self,
            id,
            sent: false,
        };
        let request = Request {
            id: id as u32,
            ..request
        };
        let queue = &self.0.queues[index];
        let pushed = || queue.submit(&request).then_some(());
        self.0.changed.until(pushed).await;
        ticket.sent = true;
        let status = poll_fn(|context| {
            let asked = &mut self.0.asked.borrow_mut().all[id];
            match asked.state {
                State::Done(status) => Poll::Ready(status),
                _ => {
                    asked.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        mem::forget(ticket);
        let hold = self.0.asked.borrow_mut().take(id);
        let result = match status {
            status::OKAY => Ok(()),
            status::EOPNOTSUPP => Err(io::ErrorKind::Unsupported.into()),
            _ => Err(io::Error::other("the disk below the tap has failed")),
        };
        (result, hold)
    }

    /// The queue in whose window `buf` is, and where.
    fn place(&self, buf: &Buf) -> Option<(usize, u32)> {
        let mut queues = self.0.queues.iter().enumerate();
        queues.find_map(|(index, queue)| Some((index, queue.region.sector_of(buf)?)))
    }

    /// A piece of a queue's own part: which queue, where, the memory.
    async fn own(&self) -> (usize, u32, Buf) {
        let free = || {
            let mut free = self.0.free.borrow_mut();
            let served =
                |index: usize| index == 0 || self.0.queues[index].index < self.0.connected.get();
            let last = free.iter().rposition(|(index, _)| served(*index))?;
            Some(free.swap_remove(last))
        };
        let (index, piece) = self.0.changed.until(free).await;
        let sector = self.0.queues[index].region.sector_of(&piece);
        (index, sector.unwrap_or(NO_DATA), piece)
    }
}

impl Table {
    fn add(&mut self, hold: Hold) -> usize {
        let state = State::Waits;
        let asked = Asked {
            state,
            hold,
            waker: None,
        };
        match self.free.pop() {
            Some(id) => {
                self.all[id] = asked;
                id
            }
            None => {
                self.all.push(asked);
                self.all.len() - 1
            }
        }
    }

    fn take(&mut self, id: usize) -> Hold {
        self.free.push(id);
        mem::take(&mut self.all[id]).hold
    }
}

/// A number in [`Inner::asked`] whose asker may go before the answer comes.
struct Ticket<'a> {
    below: &'a Below,
    id: usize,
    sent: bool,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut table = self.below.0.asked.borrow_mut();
        let asked = &mut table.all[self.id];
        if self.sent && asked.state == State::Waits {
            asked.state = State::Left;
            return;
        }
        let hold = table.take(self.id);
        drop(table);
        self.below.give(hold);
    }
}

/// A request for `len` bytes at `at` of the disk, with data at `data`.
fn request(op: u8, flags: u8, at: u64, len: usize, data: u32) -> Request {
    Request {
        op,
        flags,
        sector: at / SECTOR_SIZE as u64,
        nr_sectors: (len / SECTOR_SIZE) as u64,
        data,
        ..Request::default()
    }
}

impl Disk for Below {
    fn info(&self) -> Info {
        let geometry = self.0.info.get();
        let has = |feature| geometry.features & feature != 0;
        Info {
            size: geometry.sectors.saturating_mul(SECTOR_SIZE as u64),
            block_size: geometry.sector_size,
            physical_block_size: geometry.physical_sector_size,
            read_only: has(geometry::READ_ONLY),
            discard: has(geometry::DISCARD),
            discard_granularity: geometry.discard_granularity,
        }
    }

    async fn read(&self, at: u64, buf: &mut Buf) -> io::Result<()> {
        if let Some((index, data)) = self.place(buf) {
            let request = request(op::READ, 0, at, buf.len(), data);
            let (result, hold) = self.ask(index, request, Hold::Fill(mem::take(buf))).await;
            if let Hold::Fill(filled) = hold {
                *buf = filled;
            }
            return result;
        }
        let mut done = 0;
        while done < buf.len() {
            let (index, data, piece) = self.own().await;
            let len = piece.len().min(buf.len() - done);
            let request = request(op::READ, 0, at + done as u64, len, data);
            let (result, hold) = self.ask(index, request, Hold::Own(index, piece)).await;
            if let (Ok(()), Hold::Own(_, piece)) = (&result, &hold) {
                buf[done..done + len].copy_from_slice(&piece[..len]);
            }
            self.give(hold);
            result?;
            done += len;
        }
        Ok(())
    }

    async fn write(&self, at: u64, buf: &Buf, fua: bool) -> io::Result<()> {
        if let Some((index, data)) = self.place(buf) {
            let request = request(op::WRITE, 0, at, buf.len(), data);
            self.ask(index, request, Hold::Read(buf.share())).await.0?;
        } else {
            let mut done = 0;
            while done < buf.len() {
                let (index, data, mut piece) = self.own().await;
                let len = piece.len().min(buf.len() - done);
                piece[..len].copy_from_slice(&buf[done..done + len]);
                let request = request(op::WRITE, 0, at + done as u64, len, data);
                let (result, hold) = self.ask(index, request, Hold::Own(index, piece)).await;
                self.give(hold);
                result?;
                done += len;
            }
        }
        match fua {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    async fn flush(&self) -> io::Result<()> {
        if self.0.info.get().features & geometry::FLUSH == 0 {
            return Ok(());
        }
        let request = request(op::FLUSH, 0, 0, 0, NO_DATA);
        self.ask(0, request, Hold::Nothing).await.0
    }

    async fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        let request = Request {
            nr_sectors: len / SECTOR_SIZE as u64,
            ..request(op::DISCARD, 0, at, 0, NO_DATA)
        };
        match self.ask(0, request, Hold::Nothing).await.0 {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    async fn resized(&self) {
        self.0.resized.notified().await
    }
}

/// The flags of the guest's requests that a disk is asked for otherwise.
pub(crate) fn is_barrier(request: &Request) -> bool {
    request.flags & flag::BARRIER != 0
}
