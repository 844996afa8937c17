// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The rings of a network device: what a hostile front end writes, up to a packet that is sent back;
//! what a hostile back end writes, up to a packet; requests of the control ring; frames; what is read
//! from xenstore.

use crate::Input;
use protocol::mock::{Area, Broken, Loopback, Looped, Pages};
use protocol::negotiate::MAX_PORT;
use protocol::netif::{
    key, mac_address, mtu, status, ControlRequest, ControlRing, ControlStep, Hashing, Id, Offer,
    Ports, Rate, Rx, RxNext, RxPacket, RxRequest, RxResponse, RxSlot, Tx, TxIds, TxResponse,
    TxSlot, VifQueue, Wish, HASH_KINDS, MAX_CONTROL_COPY, MAX_HEADROOM,
};
use protocol::ring::{Back, Codec, Front};

/// A byte says what the rest is for.
pub fn netif(input: &[u8]) {
    let mut input = Input(input);
    match (input.u8(), &mut input) {
        (192.., input) => keys(input),
        (kind, input) => match kind % 4 {
            0 => transmit(input),
            1 => receive(input),
            2 => control(input),
            _ => responses(input),
        },
    }
}

/// What either end has in xenstore: each key as often as not.
fn keys(input: &mut Input<'_>) {
    let (there, small) = (input.u32(), input.u32());
    let values: [u64; 8] = [(); 8].map(|()| input.u64());
    let read = |key: &'static str| {
        // Any function of the name that tells most names apart.
        let number = key
            .bytes()
            .fold(key.len(), |sum, byte| sum * 3 + usize::from(byte));
        let value = values[number % 8];
        let value = if small >> (number % 32) & 1 != 0 {
            value % 12
        } else {
            value
        };
        (there >> (number % 31) & 1 != 0).then_some(value)
    };
    if let Ok(offer) = Offer::read(read, 8) {
        assert!((1..=8).contains(&offer.queues));
        assert!(offer.takes.sg || !offer.takes.gso_tcpv4 && !offer.takes.gso_tcpv6);
    }
    if let Ok(wish) = Wish::read(read, 8) {
        assert!((1..=8).contains(&wish.queues) && wish.headroom <= MAX_HEADROOM);
    }
    if let Ok(queue) = VifQueue::read(read) {
        assert!(queue.tx_ring_ref != 0 && queue.rx_ring_ref != 0);
        let (Ports::Shared(tx) | Ports::Split { tx, .. }) = queue.ports;
        assert!((1..=MAX_PORT).contains(&tx));
        let (Ports::Shared(rx) | Ports::Split { rx, .. }) = queue.ports;
        assert!((1..=MAX_PORT).contains(&rx));
    }
    if let Ok(Some(ring)) = ControlRing::read(read) {
        assert!(ring.ring_ref != 0 && (1..=MAX_PORT).contains(&ring.port));
    }
    assert!((68..65536).contains(&mtu(read(key::MTU))));
    let text: Vec<u8> = input.collect();
    if let Ok(text) = std::str::from_utf8(&text) {
        let _ = (Rate::parse(text), mac_address(text));
    }
}

/// Pages that a front end grants, by references from 0 on.
const GRANTED: u32 = 24;

/// An entry for each five bytes: small numbers, where large ones would only be refused.
fn tx_slot(input: &mut Input<'_>, id: u16) -> Option<TxSlot> {
    let kind = input.next()?;
    if kind & 0x80 != 0 {
        return Some(TxSlot::from(input.array::<12>()));
    }
    let [offset, size, step, gref] = input.array::<4>();
    let mut bytes = [0; 12];
    bytes[0] = gref % (GRANTED as u8 + 1);
    bytes[4..6].copy_from_slice(&(u16::from(offset) << (step & 7)).to_le_bytes());
    bytes[6] = kind & 0xf;
    bytes[8..10].copy_from_slice(&id.to_le_bytes());
    bytes[10..].copy_from_slice(&(u16::from(size) << (step >> 4)).to_le_bytes());
    Some(TxSlot::from(bytes))
}

/// A front end's entries, served by a back end that panics on what is out of bounds.
fn transmit(input: &mut Input<'_>) {
    let [headroom, receives] = input.array::<2>();
    let (tx, rx) = (Area::page(), Area::page());
    let mut tx_front = Front::new(tx.clone(), Tx).expect("a page");
    let mut rx_front = Front::new(rx.clone(), Rx).expect("a page");
    let mut pages = Pages::new();
    for gref in 0..GRANTED {
        pages.insert(gref, [gref as u8; 4096]);
    }
    for _ in 0..receives {
        let entry = rx_front.next_request();
        let request = RxRequest {
            id: entry as u16,
            // No packet takes so many.
            gref: entry % GRANTED,
        };
        rx_front.push(&request).expect("free");
    }
    let _ = rx_front.publish();
    let mut sent = 0;
    while let Some(slot) = tx_slot(input, sent) {
        if tx_front.push(&slot).is_err() {
            break;
        }
        sent += 1;
    }
    let _ = tx_front.publish();

    let mut tx_back = Back::attach(tx, Tx).expect("in order");
    let mut rx_back = Back::attach(rx, Rx).expect("in order");
    let mut loopback = Loopback::default();
    loopback.headroom = u16::from(headroom);
    let mut packet = RxPacket::new();
    loop {
        let looped = match loopback.serve(&mut tx_back, &mut rx_back, &mut pages) {
            Ok(looped) => looped,
            Err(Broken::Rx(overrun)) => panic!("{overrun:?}"),
            Err(Broken::Tx(_)) => return,
        };
        assert_eq!(tx_back.unanswered(), 0, "each entry has its response");
        let _ = rx_back.publish();
        let next = packet.read(&mut rx_front, |_| {}).expect("in order");
        match looped {
            Looped::Empty => break,
            Looped::Sent(bytes) => {
                assert_eq!(next, RxNext::Packet);
                let mut got: Vec<u8> = Vec::new();
                for part in packet.parts() {
                    let page = &pages[&(part.entry % GRANTED)];
                    got.extend(&page[part.offset as usize..][..part.len as usize]);
                }
                assert_eq!(got, bytes);
            }
            Looped::NoRoom => assert_eq!(next, RxNext::Empty),
            Looped::Answered => assert_ne!(next, RxNext::Packet),
        }
    }
    let _ = tx_back.publish();
    let mut answered = 0;
    while tx_front.pop().expect("in order").is_some() {
        answered += 1;
    }
    assert_eq!(answered, sent);
}

/// A back end's entries, read by a front end.
fn receive(input: &mut Input<'_>) {
    let area = Area::page();
    let mut front = Front::new(area.clone(), Rx).expect("a page");
    while front.free() > 0 {
        front.push(&RxRequest::default()).expect("free");
    }
    let _ = front.publish();
    let mut back = Back::attach(area, Rx).expect("in order");
    let mut sent = 0u16;
    while let Some(kind) = input.next() {
        if back.pop() == Ok(None) {
            break;
        }
        let slot = if kind & 0x80 != 0 {
            RxSlot::from(input.array::<8>())
        } else {
            let [offset, size, step] = input.array::<3>();
            RxSlot::from(RxResponse {
                id: sent.wrapping_add(u16::from(kind & 0x70 == 0x70)),
                offset: u16::from(offset) << (step & 7),
                flags: u16::from(kind & 0xf),
                status: (i16::from(size) << (step >> 5)) - i16::from(kind & 0x60 == 0x60),
            })
        };
        back.push(&slot).expect("asked for");
        sent += 1;
    }
    let _ = back.publish();
    let mut packet = RxPacket::new();
    let mut entries = Vec::new();
    loop {
        let next = packet.read(&mut front, |entry| entries.push(entry));
        match next.expect("in order") {
            RxNext::Empty => break,
            RxNext::Refused(_) => assert!(packet.parts().is_empty()),
            RxNext::Packet => {
                let parts = packet.parts();
                assert!(!parts.is_empty() && parts.len() <= 18);
                assert!(parts.iter().all(|p| p.len > 0 && p.offset + p.len <= 4096));
                let sum: u32 = parts.iter().map(|part| part.len).sum();
                assert!(sum >= 14 && sum == packet.size());
                entries.extend(parts.iter().map(|part| part.entry));
            }
        }
    }
    entries.sort_unstable();
    assert!(
        entries.into_iter().eq(0..u32::from(sent)),
        "each entry once"
    );
}

/// Requests of the control ring, then a frame.
fn control(input: &mut Input<'_>) {
    let mut hashing = Hashing::new();
    for _ in 0..input.u8() % 16 {
        let [kind, a, b, c, queue] = input.array::<5>();
        let request = ControlRequest {
            id: 1,
            kind: u16::from(kind % 12),
            data: [a, b, c].map(u32::from),
        };
        let before = hashing.clone();
        let response = match hashing.begin(&request) {
            ControlStep::Answer(response) => response,
            ControlStep::Copy { len, pending, .. } => {
                assert!((1..=MAX_CONTROL_COPY).contains(&len));
                let page = [queue & 3, 0, 0, queue >> 7].repeat(1024);
                let readable = (kind < 240).then_some(&page[..len]);
                hashing.end(&pending, readable, 4)
            }
        };
        assert_eq!((response.id, response.kind), (1, request.kind));
        assert!(hashing.mapping().len() <= 128);
        assert!(hashing.mapping().iter().all(|queue| *queue < 4));
        assert_eq!(hashing.kinds() & !HASH_KINDS, 0);
        if response.status != 0 {
            assert_eq!(hashing.mapping(), before.mapping());
            assert_eq!(hashing.key(), before.key());
        }
    }
    let hash = hashing.hash(input.0).map_or(0, |hash| hash.value);
    assert!(hashing.queue(hash, 4) < 4);
    assert_eq!(hashing.queue(hash, 1), 0);
}

/// A back end's transmit responses.
fn responses(input: &mut Input<'_>) {
    let mut ids = TxIds::new([Id::UNUSED; 8]);
    let mut pending = [false; 8];
    let mut extras = 0;
    for step in input {
        if step & 1 != 0 {
            match ids.start() {
                Ok(id) => assert!(!std::mem::replace(&mut pending[usize::from(id)], true)),
                Err(_) => assert_eq!(pending, [true; 8]),
            }
            ids.start_extras(u32::from(step >> 7));
            extras += u32::from(step >> 7);
            continue;
        }
        let response: TxResponse = Tx.decode_response(&[step >> 1 & 15, 0, step >> 6, 0]);
        let is_pending = pending.get(usize::from(response.id)).copied();
        match ids.finish(&response) {
            Ok(Some(id)) => {
                assert_eq!((id, is_pending), (response.id, Some(true)));
                pending[usize::from(id)] = false;
            }
            Ok(None) => {
                assert_eq!(response.status, status::NULL);
                extras -= 1;
            }
            Err(_) if response.status == status::NULL => assert_eq!(extras, 0),
            Err(_) => assert_ne!(is_pending, Some(true)),
        }
        let expected = (0..8).filter(|id| pending[usize::from(*id)]);
        assert!(ids.iter().eq(expected));
    }
}
