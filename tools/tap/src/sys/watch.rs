// SPDX-License-Identifier: GPL-2.0
//! A file that is polled again and again by one operation.

use super::op::Fd;
use super::uring::{Hold, Slot, Uring, Wants};
use io_uring::{opcode, types};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::task::Poll;

/// Each wake-up of those who poll a file, whatever it was for.
pub(crate) struct Watch {
    uring: Rc<Uring>,
    file: Fd,
    events: i16,
    index: Option<usize>,
    seen: u32,
}

impl Watch {
    /// Of `file`, for `POLL*` in `events`.
    pub(crate) fn new(file: &Fd, events: i16) -> Self {
        Self {
            uring: crate::rt::uring(),
            file: file.clone(),
            events,
            index: None,
            seen: 0,
        }
    }

    /// Waits until the file was woken since the last call, or since the first one; for which `POLL*`.
    pub(crate) async fn next(&mut self) -> i16 {
        std::future::poll_fn(|context| {
            let index = *self.index.get_or_insert_with(|| {
                let poll = opcode::PollAdd::new(
                    types::Fd(self.file.as_raw_fd()),
                    self.events as u16 as u32,
                );
                let poll = poll.multi(true).build();
                let index = self.uring.slots.borrow_mut().add(Slot {
                    wants: Wants::More(0, 0, None),
                    hold: Hold::Nothing,
                    _file: Some(self.file.clone()),
                });
                self.seen = 0;
                // SAFETY: it points at nothing.
                unsafe { self.uring.push(&poll.user_data(index as u64)) };
                index
            });
            let mut slots = self.uring.slots.borrow_mut();
            match &mut slots.all[index].wants {
                Wants::More(count, bits, _) if *count != self.seen => {
                    self.seen = *count;
                    Poll::Ready(std::mem::take(bits) as i16)
                }
                Wants::More(_, _, waker) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                // The kernel has ended it, as it may; the next call makes a new one. What it was for is not
                // known.
                _ => {
                    let gone = slots.take(index);
                    drop(slots);
                    drop(gone);
                    self.index = None;
                    Poll::Ready(self.events)
                }
            }
        })
        .await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(index) = self.index else { return };
        let mut slots = self.uring.slots.borrow_mut();
        if let Wants::Taken(_) = slots.all[index].wants {
            let gone = slots.take(index);
            drop(slots);
            drop(gone);
            return;
        }
        slots.all[index].wants = Wants::Nothing;
        drop(slots);
        self.uring.cancel(index);
    }
}
