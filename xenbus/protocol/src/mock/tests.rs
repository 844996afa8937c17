// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A session between both ends, over and over, each time with other damage at another access.

use super::*;
use crate::blkif::{op, status, Abi, Limits, Offered, Pending, RawRequest, Segment, MAX_SEGMENTS};
use crate::ring::{Back, Front};

const LIMITS: Limits = Limits {
    capacity_sectors: 64,
    read_only: false,
    max_segments: MAX_SEGMENTS,
    max_indirect_segments: 0,
    sector_size: 512,
    features: Offered {
        flush: true,
        barrier: false,
        discard: false,
        secure_discard: false,
    },
};

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Every request was answered well.
    Well,
    /// Some request was refused, or got lost.
    Poorly,
    /// The back end has caught the front end.
    FrontCaught,
    /// The front end has caught the back end, by the ring or by a response.
    BackCaught,
}

/// Sends six writes in two batches through a ring in `area`; `plan` damages what the front end
/// (`of_front`) or else the back end sees. Returns how that ended and after how many accesses.
fn session(of_front: bool, plan: Vec<(u64, Damage)>) -> (End, u64) {
    let area = Area::page();
    let (front_plan, back_plan) = if of_front {
        (plan, Vec::new())
    } else {
        (Vec::new(), plan)
    };
    let front_memory = Faulty::new(area.clone(), front_plan);
    let back_memory = Faulty::new(area, back_plan);
    let end = run(&front_memory, &back_memory);
    let accesses = if of_front {
        front_memory.accesses()
    } else {
        back_memory.accesses()
    };
    (end, accesses)
}

fn run(front_memory: &Faulty<Area>, back_memory: &Faulty<Area>) -> End {
    let mut front = Front::new_at(front_memory, Abi::Native, u32::MAX - 2).unwrap();
    let Ok(mut back) = Back::attach(back_memory, Abi::Native) else {
        return End::FrontCaught;
    };
    let mut guest = Guest::default();
    guest.pages.insert(1, [1; 4096]);
    let mut disk = Disk::new(LIMITS);
    let mut pending = Pending::<[_; 32]>::new();
    let mut well = 0;
    let page = Segment {
        gref: 1,
        first: 0,
        last: 7,
    };
    for _ in 0..2 {
        for sector in [0, 8, 56] {
            let Ok(id) = pending.start_any(op::WRITE) else {
                return End::Poorly;
            };
            let request = RawRequest::transfer(op::WRITE, id as u64, 0, sector, &[page]);
            front.push(&request).unwrap();
        }
        let _ = front.publish();
        match disk.serve(&mut back, &mut guest) {
            // More than that cannot be in the ring at once, whatever the front end claims.
            Ok((served, _)) => assert!(served <= 2 * 32),
            Err(_) => return End::FrontCaught,
        }
        loop {
            match front.pop() {
                Ok(Some(response)) => match pending.finish(&response) {
                    Ok(_) => well += usize::from(response.status == status::OKAY),
                    Err(_) => return End::BackCaught,
                },
                Ok(None) => match front.final_check() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => return End::BackCaught,
                },
                Err(_) => return End::BackCaught,
            }
        }
    }
    if well == 6 && pending.is_empty() {
        End::Well
    } else {
        End::Poorly
    }
}

#[test]
fn without_damage_all_goes_well() {
    assert_eq!(session(true, Vec::new()).0, End::Well);
    assert_eq!(session(false, Vec::new()).0, End::Well);
}

/// Each kind of damage, before each access of either end. None may panic; the disk does when it is
/// written beyond its end. What the indices cannot be is found out.
#[test]
fn damage_at_any_moment() {
    for of_front in [true, false] {
        let (_, accesses) = session(of_front, Vec::new());
        let prod = [index::RSP_PROD, index::REQ_PROD][usize::from(!of_front)];
        let event = [index::REQ_EVENT, index::RSP_EVENT][usize::from(!of_front)];
        let caught = [End::BackCaught, End::FrontCaught][usize::from(!of_front)];
        let mut ends = Vec::new();
        for access in 0..accesses {
            for step in [
                1,
                2,
                3,
                31,
                32,
                33,
                1 << 31,
                u32::MAX,
                u32::MAX - 1,
                u32::MAX - 40,
            ] {
                let (end, _) = session(of_front, std::vec![(access, Damage::Add(prod, step))]);
                ends.push(end);
                let (end, _) = session(of_front, std::vec![(access, Damage::Add(event, step))]);
                assert_eq!(
                    end,
                    End::Well,
                    "a wrong event index harms nobody who is awake"
                );
            }
            for slot in 0..7 {
                for byte in [0, 1, 8, 16, 24, 28, 29] {
                    let at = HEADER + (32 - 3 + slot) % 32 * 112 + byte;
                    let plan = std::vec![(access, Damage::Bytes(at, std::vec![0xff; 8]))];
                    session(of_front, plan);
                }
            }
        }
        assert!(ends.contains(&caught), "{of_front}: {ends:?}");
    }
}
