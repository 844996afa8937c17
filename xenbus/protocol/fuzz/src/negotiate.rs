// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What is read from xenstore: numbers, a protocol name, states.

use crate::Input;
use protocol::blkif::Abi;
use protocol::negotiate::{queues, ring_pages, Disk, Queue, MAX_PORT, MAX_SECTORS};
use protocol::state::{self, XenbusState};
use protocol::vdev::Vdev;

/// A byte that tells which keys there are, and the keys.
pub fn negotiate(input: &[u8]) {
    let mut input = Input(input);
    let there = input.u8();
    let mut number = |bit: u8| (there & (1 << bit) != 0).then(|| input.u64());
    let numbers = [
        number(0),
        number(1),
        number(2),
        number(3),
        number(4),
        number(5),
        number(6),
    ];
    let [sectors, sector_size, physical, info, ring_ref, port, num_queues] = numbers;

    if let Ok(disk) = Disk::negotiate(sectors, sector_size, physical, info) {
        assert!(disk.sectors <= MAX_SECTORS);
        assert!(disk.sector_size.is_power_of_two() && (512..=4096).contains(&disk.sector_size));
        assert_eq!(disk.sectors % u64::from(disk.sector_size / 512), 0);
        assert_eq!(disk.physical_sector_size % disk.sector_size, 0);
    }
    if let Ok(n) = queues(num_queues, 8) {
        assert!((1..=8).contains(&n));
    }

    let number = input.u32();
    if let Ok(vdev) = Vdev::new(number) {
        assert!(vdev.minor + vdev.minors <= 1 << 20);
        let name = vdev.name();
        assert!(name.as_str().starts_with("xvd") && (4..=9).contains(&name.as_str().len()));
    }

    let (own, other) = (input.u8() % 16, input.u8() % 16);
    let (own, other) = (
        XenbusState::from(u32::from(own)),
        XenbusState::from(u32::from(other)),
    );
    let _ = state::front(own, other);
    let _ = state::back(own, other, there >> 7 != 0);

    let rest: Vec<u8> = input.collect();
    let protocol = std::str::from_utf8(&rest)
        .ok()
        .filter(|name| !name.is_empty());
    if let Ok(abi) = Abi::from_protocol(protocol) {
        assert_eq!(abi.protocol(), protocol.unwrap_or("x86_32-abi"));
    }
    if let Ok(queue) = Queue::single(ring_ref, port) {
        assert!(queue.ring_refs() == [ring_ref.unwrap() as u32]);
        assert!((1..=MAX_PORT).contains(&queue.event_channel));
    }
    if let Ok(pages) = ring_pages(num_queues, number) {
        assert!((1..=16).contains(&pages));
        let ring_ref = |i| ring_ref.map(|gref| gref.wrapping_add(i as u64));
        if let Ok(queue) = Queue::multi(pages, ring_ref, port) {
            assert!(queue.ring_refs().len() == pages && !queue.ring_refs().contains(&0));
        }
    }
}
