// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The generic parts of the protocol crate, compiled for one memory, so that `run` can look at the
//! code that comes of them.

#![no_std]
#![allow(missing_docs)]

use core::cell::Cell;
use protocol::blkif::{
    Abi, BadResponse, Busy, Indirect, Limits, Parsed, Pending, RawRequest, Refusal, Request,
    Response, Segment,
};
use protocol::kept::{Entry, Kept, Place, Taken};
use protocol::negotiate::{BadKey, Queue};
use protocol::netif::{
    self, BadTxResponse, Checksum, Control, ControlRequest, ControlResponse, ControlRing, Credit,
    Extras, Hashing, Id, MulticastFilter, NoId, Offer, Rx, RxEntry, RxNext, RxPacket, RxRequest,
    RxSend, RxSlot, Tx, TxFatal, TxIds, TxNext, TxPacket, TxResponse, TxSend, TxSlot, Unsendable,
    VifQueue, Wish,
};
use protocol::ring::{AttachError, Back, Front, Full, Memory, Overrun, TooSmall, Unasked};
use protocol::tap::{self, Entries};
use protocol::tapped::{self, Answered, Fifo, Piece, Pieces, Sent, Unknown};

/// As good as any: what counts is that the compiler knows nothing of what is in it.
pub struct Page<'a>(&'a [Cell<u8>]);

impl Memory for Page<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn load(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.copy_out(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }
    fn store(&self, offset: usize, value: u32) {
        self.copy_in(offset, &value.to_le_bytes());
    }
    fn barrier(&self) {}
    fn copy_out(&self, offset: usize, to: &mut [u8]) {
        for (from, to) in self.0.iter().skip(offset).zip(to) {
            *to = from.get();
        }
    }
    fn copy_in(&self, offset: usize, from: &[u8]) {
        for (to, from) in self.0.iter().skip(offset).zip(from) {
            to.set(*from);
        }
    }
}

pub fn front_new(page: Page<'_>, abi: Abi) -> Result<Front<Page<'_>, Abi>, TooSmall> {
    Front::new(page, abi)
}

pub fn front_push(front: &mut Front<Page<'_>, Abi>, request: &RawRequest) -> Result<(), Full> {
    front.push(request)
}

pub fn front_publish(front: &mut Front<Page<'_>, Abi>) -> bool {
    front.publish()
}

pub fn front_pop(front: &mut Front<Page<'_>, Abi>) -> Result<Option<Response>, Overrun> {
    front.pop()
}

pub fn front_check(front: &mut Front<Page<'_>, Abi>) -> Result<bool, Overrun> {
    front.final_check()
}

pub fn back_attach(page: Page<'_>, abi: Abi) -> Result<Back<Page<'_>, Abi>, AttachError> {
    Back::attach(page, abi)
}

pub fn back_pop(back: &mut Back<Page<'_>, Abi>) -> Result<Option<RawRequest>, Overrun> {
    back.pop()
}

pub fn back_push(back: &mut Back<Page<'_>, Abi>, response: &Response) -> Result<(), Unasked> {
    back.push(response)
}

pub fn back_publish(back: &mut Back<Page<'_>, Abi>) -> bool {
    back.publish()
}

pub fn back_check(back: &mut Back<Page<'_>, Abi>) -> Result<bool, Overrun> {
    back.final_check()
}

pub fn start(pending: &mut Pending<[Option<u8>; 32]>, operation: u8) -> Result<usize, Busy> {
    pending.start_any(operation)
}

pub fn finish(pending: &mut Pending<[Option<u8>; 32]>, response: &Response) -> Result<usize, BadResponse> {
    pending.finish(response)
}

pub fn parse<'a>(raw: &'a RawRequest, limits: &Limits) -> Result<Parsed<'a>, Refusal> {
    Request::parse(raw, limits)
}

pub fn parse_list(
    indirect: &Indirect<'_>,
    list: &[u8],
    limits: &Limits,
    to: &mut [Segment],
) -> Result<Request, Refusal> {
    let mut to = to.iter_mut();
    indirect.parse(list, limits, |segment| {
        if let Some(to) = to.next() {
            *to = segment;
        }
    })
}

pub fn queue(pages: usize, ring_refs: &[u64], port: Option<u64>) -> Result<Queue, BadKey> {
    Queue::multi(pages, |i| ring_refs.get(i).copied(), port)
}

/// The table that a front end's references lead through.
pub type Table<'a> = Kept<&'a mut [Entry<u64>]>;

pub fn kept_new(entries: &mut [Entry<u64>], seed: u64) -> Table<'_> {
    Kept::new(entries, seed)
}

pub fn kept_take(table: &mut Table<'_>, gref: u32) -> Taken {
    table.take(gref)
}

pub fn kept_insert(table: &mut Table<'_>, gref: u32, value: u64) -> Result<Place, u64> {
    table.insert(gref, value, 1056)
}

pub fn kept_put(table: &mut Table<'_>, place: Place, now: u64) {
    table.put(place, now)
}

pub fn kept_purge(table: &mut Table<'_>, before: u64, sum: &mut u64) {
    table.purge(Some(before), 1056, |value| *sum ^= value);
    table.clear(|value| *sum ^= value);
}

/// The table that a program's ids lead through.
pub type Asked<'a> = Sent<&'a mut [tapped::Entry]>;

pub fn sent_new(entries: &mut [tapped::Entry]) -> Asked<'_> {
    Sent::new(entries)
}

pub fn sent_send(sent: &mut Asked<'_>, request: u16, piece: Piece) -> Option<u32> {
    sent.send(request, 0, piece, 0)
}

pub fn sent_answer(sent: &mut Asked<'_>, id: u32) -> Result<Answered, Unknown> {
    if let Some(entry) = sent.get(id) {
        entry.busy = false;
    }
    sent.answer(id)
}

pub fn sent_end(sent: &mut Asked<'_>, sum: &mut u16) {
    sent.orphan_all(|entry| *sum ^= entry.request);
    sent.take_back(|entry| *sum ^= entry.request);
}

pub fn pieces_new(bits: &mut [u64], pages: u32) -> Pieces<&mut [u64]> {
    Pieces::new(bits, pages)
}

pub fn pieces_take(pieces: &mut Pieces<&mut [u64]>, count: u32) -> Option<Piece> {
    pieces.take(count)
}

pub fn pieces_give(pieces: &mut Pieces<&mut [u64]>, piece: Piece) {
    pieces.give(piece)
}

pub fn fifo(numbers: &mut Fifo<&mut [u16]>, number: u16) -> Option<u16> {
    numbers.push(number);
    numbers.push_first(number);
    numbers.pop()
}

pub fn tap_push(front: &mut Front<Page<'_>, Entries>, request: &tap::Request) -> Result<(), Full> {
    front.push(request)
}

pub fn tap_answer(front: &mut Front<Page<'_>, Entries>) -> Result<Option<tap::Response>, Overrun> {
    front.pop()
}

pub fn tap_pop(back: &mut Back<Page<'_>, Entries>) -> Result<Option<tap::Request>, Overrun> {
    back.pop()
}

pub fn tx_read(packet: &mut TxPacket, ring: &mut Back<Page<'_>, Tx>, fatal: usize) -> Result<TxNext, TxFatal> {
    packet.read(ring, fatal)
}

pub fn tx_answer(packet: &TxPacket, ring: &mut Back<Page<'_>, Tx>, status: i16) {
    packet.answer(ring, status)
}

pub fn tx_pieces(packet: &TxPacket, from: u32, len: u32) -> u32 {
    packet.pieces(from, len).fold(0, |sum, piece| sum ^ piece.len ^ piece.offset)
}

pub fn tx_attach(page: Page<'_>) -> Result<Back<Page<'_>, Tx>, AttachError> {
    Back::attach(page, Tx)
}

pub fn tx_send(size: u32, requests: u32, checksum: Checksum, extras: Extras) -> Result<TxSend, Unsendable> {
    TxSend::new(size, requests, checksum, extras)
}

pub fn tx_push(send: &mut TxSend, ring: &mut Front<Page<'_>, Tx>, gref: u32, offset: u16) -> Result<u32, Full> {
    send.push(ring, 1, gref, offset, 9)
}

pub fn tx_push_slot(ring: &mut Front<Page<'_>, Tx>, slot: &TxSlot) -> Result<(), Full> {
    ring.push(slot)
}

pub fn tx_pop(ring: &mut Front<Page<'_>, Tx>) -> Result<Option<TxResponse>, Overrun> {
    ring.pop()
}

pub fn spans(offset: u32, len: u32) -> u32 {
    let mut sum = netif::count_spans(offset, len);
    netif::spans(offset, len).for_each(|span| sum ^= span.len ^ span.page);
    sum
}

pub fn ids_new(ids: &mut [Id]) -> TxIds<&mut [Id]> {
    TxIds::new(ids)
}

pub fn ids_start(ids: &mut TxIds<&mut [Id]>) -> Result<u16, NoId> {
    ids.start_extras(1);
    ids.start()
}

pub fn ids_finish(ids: &mut TxIds<&mut [Id]>, response: &TxResponse) -> Result<Option<u16>, BadTxResponse> {
    ids.finish(response)
}

pub fn ids_sum(ids: &TxIds<&mut [Id]>) -> u32 {
    ids.iter().fold(0, |sum, id| sum ^ u32::from(id))
}

pub fn rx_read(packet: &mut RxPacket, ring: &mut Front<Page<'_>, Rx>, sum: &mut u32) -> Result<RxNext, Overrun> {
    packet.read(ring, |entry| *sum ^= entry)
}

pub fn rx_request(ring: &mut Front<Page<'_>, Rx>, request: &RxRequest) -> Result<(), Full> {
    ring.push(request)
}

pub fn rx_pop(ring: &mut Back<Page<'_>, Rx>) -> Result<Option<RxRequest>, Overrun> {
    ring.pop()
}

pub fn rx_push(ring: &mut Back<Page<'_>, Rx>, slot: &RxSlot) -> Result<(), Unasked> {
    ring.push(slot)
}

pub fn rx_send(size: u32, checksum: Checksum, extras: Extras, sg: bool) -> Result<RxSend, Unsendable> {
    RxSend::new(size, checksum, extras, sg)
}

pub fn rx_entries(send: &RxSend) -> u32 {
    send.entries()
}

pub fn rx_next(send: &mut RxSend, request: &RxRequest) -> Option<RxEntry> {
    send.next(request)
}

pub fn control_pop(ring: &mut Back<Page<'_>, Control>) -> Result<Option<ControlRequest>, Overrun> {
    ring.pop()
}

pub fn control_push(ring: &mut Back<Page<'_>, Control>, response: &ControlResponse) -> Result<(), Unasked> {
    ring.push(response)
}

pub fn offer(keys: &dyn Fn(&'static str) -> Option<u64>) -> Result<Offer, BadKey> {
    Offer::read(keys, 4)
}

pub fn wish(keys: &dyn Fn(&'static str) -> Option<u64>) -> Result<Wish, BadKey> {
    Wish::read(keys, 4)
}

pub fn vif_queue(keys: &dyn Fn(&'static str) -> Option<u64>) -> Result<VifQueue, BadKey> {
    VifQueue::read(keys)
}

pub fn control_ring(keys: &dyn Fn(&'static str) -> Option<u64>) -> Result<Option<ControlRing>, BadKey> {
    ControlRing::read(keys)
}

pub fn multicast(filter: &MulticastFilter, address: &[u8; 6]) -> bool {
    filter.iter().count() > 3 && filter.lets_through(address)
}

pub fn hashing(hashing: &Hashing, frame: &[u8], queues: u32) -> u32 {
    let hash = hashing.hash(frame).map_or(0, |hash| hash.value);
    hashing.queue(hash, queues)
}

pub fn credit(credit: &mut Credit, bytes: u32, now: u64) -> Result<(), u64> {
    credit.take(bytes, now)
}

pub fn rx_slot(entry: RxEntry, status: i16) -> RxSlot {
    entry.slot().failed(status)
}

pub fn slots(tx: TxSlot, rx: RxSlot) -> (TxSlot, RxSlot) {
    let (request, response) = (tx.request(), rx.response());
    if request.flags == response.flags {
        return (tx.extra().into(), rx.extra().into());
    }
    (request.into(), response.into())
}

pub fn checksums(tx: &TxPacket, rx: &RxPacket) -> (Checksum, Checksum) {
    (tx.checksum(), rx.checksum())
}
