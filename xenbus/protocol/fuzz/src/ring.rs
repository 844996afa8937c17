// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Both ends of a ring, in a memory that changes under their feet.

use crate::Input;
use protocol::blkif::{Abi, RawRequest, Response};
use protocol::mock::{Area, Damage, Faulty};
use protocol::ring::{Back, Front, Layout, Overrun};

/// What one end has done, for the promises that hold whatever the peer does.
#[derive(Default)]
struct Account {
    /// Entries that this end has shown to its peer.
    published: u64,
    /// Entries that it has written and not shown.
    hidden: u64,
    /// Entries that it has taken.
    taken: u64,
    /// The peer was caught.
    broken: Option<Overrun>,
}

impl Account {
    fn push(&mut self, done: bool) {
        self.hidden += u64::from(done);
    }

    fn publish(&mut self) {
        self.published += std::mem::take(&mut self.hidden);
    }

    /// Notes what a read, or a look for something to read, came to.
    fn note<T>(&mut self, outcome: Result<T, Overrun>) -> Option<T> {
        match (outcome, self.broken) {
            (Ok(value), None) => Some(value),
            (Ok(_), Some(_)) => panic!("a broken ring must stay so"),
            (Err(overrun), broken) => {
                assert!(overrun.claimed > overrun.possible);
                assert!(broken.is_none_or(|broken| broken == overrun));
                self.broken = Some(overrun);
                None
            }
        }
    }
}

/// The first bytes choose the ABI and the start of the indices; the others are steps of the two
/// ends, and damage to the memory between and within them.
pub fn ring(input: &[u8]) {
    let mut input = Input(input);
    let kind = input.u8();
    let abi = [Abi::Native, Abi::X86_32][usize::from(kind & 1)];
    // Four entries, or a page.
    let area = Area::new(if kind & 2 == 0 {
        64 + 4 * 112 + 50
    } else {
        4096
    });
    let start = if kind & 4 == 0 {
        u32::MAX - 3
    } else {
        input.u32()
    };

    let front_memory = Faulty::new(area.clone(), Vec::new());
    let back_memory = Faulty::new(area.clone(), Vec::new());
    let mut front = Front::new_at(&front_memory, abi, start).expect("large enough");
    if kind & 8 != 0 {
        // Even the attach meets garbage.
        let layout = Layout::new(4096, 112).expect("large enough");
        if let Some(damage) = Damage::from_input(&mut input, &layout) {
            damage.apply(&area);
        }
    }
    let Ok(mut back) = Back::attach(&back_memory, abi) else {
        return;
    };
    let size = u64::from(front.size());
    let layout = Layout::new(4096, 112).expect("large enough");

    let (mut f, mut b) = (Account::default(), Account::default());
    while let Some(step) = input.next() {
        match step % 12 {
            0 | 1 => {
                let request = RawRequest::transfer(step >> 4, u64::from(step), 1, 2, &[]);
                f.push(front.push(&request).is_ok());
            }
            2 => {
                let _ = front.publish();
                f.publish();
            }
            3 => {
                if let Some(Some(_)) = f.note(front.pop()) {
                    f.taken += 1;
                }
            }
            4 => drop(f.note(front.final_check())),
            5 => {
                if let Some(Some(_)) = b.note(back.pop()) {
                    b.taken += 1;
                }
            }
            6 | 7 => {
                let response = Response {
                    id: u64::from(step),
                    operation: 0,
                    status: 0,
                };
                b.push(back.push(&response).is_ok());
            }
            8 => {
                let _ = back.publish();
                b.publish();
            }
            9 => drop(b.note(back.final_check())),
            10 => {
                let Some(damage) = Damage::from_input(&mut input, &layout) else {
                    break;
                };
                damage.apply(&area);
            }
            _ => {
                let Some(damage) = Damage::from_input(&mut input, &layout) else {
                    break;
                };
                let memory = if step & 16 == 0 {
                    &front_memory
                } else {
                    &back_memory
                };
                memory.damage_after(u64::from(step >> 5), damage);
            }
        }
        // A front end never takes more responses than it has sent requests, nor holds more than
        // the ring has entries.
        assert!(f.taken <= f.published);
        assert!(f.published + f.hidden - f.taken <= size);
        assert_eq!(
            u64::from(front.free()),
            size - (f.published + f.hidden - f.taken)
        );
        // A back end never answers what it was not asked, nor takes more than can be in the ring.
        assert!(b.published + b.hidden <= b.taken);
        assert!(b.taken - b.published <= size);
        assert_eq!(
            u64::from(back.unanswered()),
            b.taken - b.published - b.hidden
        );
    }
}
