// SPDX-License-Identifier: GPL-2.0 OR MIT

//! No wake-up is lost and no entry is read before it is written, in any interleaving. If the
//! memory lacks what it must have, these tests notice: as a deadlock, or as a wrong value.

use loom::thread;
use protocol::ring::{Back, Front};
use protocol_loom::{Area, Event, Flaw, Words};

/// A ring in a new memory.
fn ends(flaw: Flaw) -> (Front<Area, Words>, Back<Area, Words>) {
    let area = Area::new(flaw);
    let front = Front::new(area.clone(), Words).unwrap();
    let back = Back::attach(area, Words).unwrap();
    (front, back)
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// The front end publishes two requests one by one; the back end sleeps whenever it may.
fn requests(flaw: Flaw) {
    explore(3, move || {
        let (mut front, mut back) = ends(flaw);
        let event = Event::new();
        let sender = event.clone();
        let thread = thread::spawn(move || {
            for i in 1..=2 {
                front.push(&i).unwrap();
                if front.publish() {
                    sender.notify();
                }
            }
        });
        let mut next = 1;
        while next <= 2 {
            match back.pop().unwrap() {
                Some(request) => {
                    assert_eq!(request, next, "read before it was written");
                    next += 1;
                }
                None if back.final_check().unwrap() => {}
                None => event.wait(),
            }
        }
        thread.join().unwrap();
    });
}

/// The back end answers two requests one by one; the front end sleeps whenever it may.
fn responses(flaw: Flaw) {
    explore(3, move || {
        let (mut front, mut back) = ends(flaw);
        for i in 1..=2 {
            front.push(&i).unwrap();
        }
        let _ = front.publish();
        let event = Event::new();
        let sender = event.clone();
        let thread = thread::spawn(move || {
            while let Some(request) = back.pop().unwrap() {
                back.push(&(request + 10)).unwrap();
                if back.publish() {
                    sender.notify();
                }
            }
        });
        let mut next = 11;
        while next <= 12 {
            match front.pop().unwrap() {
                Some(response) => {
                    assert_eq!(response, next, "read before it was written");
                    next += 1;
                }
                None if front.final_check().unwrap() => {}
                None => event.wait(),
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn no_request_is_slept_through() {
    requests(Flaw::None);
}

#[test]
fn no_response_is_slept_through() {
    responses(Flaw::None);
}

/// Both ends sleep; the ring goes round once, so that entries are used again.
#[test]
fn requests_and_responses_at_once() {
    explore(2, || {
        let (mut front, mut back) = ends(Flaw::None);
        let (to_back, to_front) = (Event::new(), Event::new());
        let (wake_back, wake_front) = (to_back.clone(), to_front.clone());
        let thread = thread::spawn(move || {
            let mut served = 0;
            while served < 3 {
                match back.pop().unwrap() {
                    Some(request) => {
                        back.push(&(request + 10)).unwrap();
                        if back.publish() {
                            wake_front.notify();
                        }
                        served += 1;
                    }
                    None if back.final_check().unwrap() => {}
                    None => to_back.wait(),
                }
            }
        });
        let (mut sent, mut received) = (0, 0);
        while received < 3 {
            if sent < 3 && front.push(&sent).is_ok() {
                sent += 1;
                if front.publish() {
                    wake_back.notify();
                }
                continue;
            }
            match front.pop().unwrap() {
                Some(response) => {
                    assert_eq!(response, received + 10);
                    received += 1;
                }
                None if front.final_check().unwrap() => {}
                None => to_front.wait(),
            }
        }
        thread.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_barrier_a_request_is_slept_through() {
    requests(Flaw::NoBarrier);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_barrier_a_response_is_slept_through() {
    responses(Flaw::NoBarrier);
}

#[test]
#[should_panic(expected = "read before it was written")]
fn without_release_a_request_is_read_too_early() {
    requests(Flaw::NoRelease);
}

#[test]
#[should_panic(expected = "read before it was written")]
fn without_acquire_a_request_is_read_too_early() {
    requests(Flaw::NoAcquire);
}
