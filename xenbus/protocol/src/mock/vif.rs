// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A network back end that sends each packet back to its front end, over pages in ordinary memory.

use crate::netif::{
    status, Rx, RxEntry, RxReason, RxSend, Tx, TxFatal, TxNext, TxPacket, Unsendable, PAGE_SIZE,
};
use crate::ring::{Back, Memory, Overrun};
use std::collections::BTreeMap;
use std::vec::Vec;

/// The pages that a front end has granted, by grant reference.
pub type Pages = BTreeMap<u32, [u8; PAGE_SIZE as usize]>;

/// What a [`Loopback`] has done with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looped {
    /// There was none.
    Empty,
    /// It has been sent back: its bytes.
    Sent(Vec<u8>),
    /// It has been dropped, or has changed the multicast filter.
    Answered,
    /// There were not enough receive requests for it; or it cannot be sent back at all.
    NoRoom,
}

/// A network back end that sends each packet back to its front end.
#[derive(Default)]
pub struct Loopback {
    packet: TxPacket,
    /// Bytes of headroom in front of packets.
    pub headroom: u16,
}

/// Why a [`Loopback`] gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// By the transmit ring.
    Tx(TxFatal),
    /// By the receive ring.
    Rx(Overrun),
}

impl Loopback {
    /// Serves the next packet, if there is one.
    pub fn serve<M: Memory>(
        &mut self,
        tx: &mut Back<M, Tx>,
        rx: &mut Back<M, Rx>,
        pages: &mut Pages,
    ) -> Result<Looped, Broken> {
        match self.packet.read(tx, 20).map_err(Broken::Tx)? {
            TxNext::Empty => return Ok(Looped::Empty),
            TxNext::Refused(_) => return Ok(Looped::Answered),
            TxNext::Multicast(_) => {
                self.packet.answer(tx, status::OKAY);
                return Ok(Looped::Answered);
            }
            TxNext::Packet => {}
        }
        let mut bytes = Vec::new();
        for piece in self.packet.pieces(0, self.packet.size()) {
            let from = piece.offset as usize;
            match pages.get(&piece.gref) {
                Some(page) => bytes.extend(&page[from..from + piece.len as usize]),
                None => {
                    self.packet.answer(tx, status::ERROR);
                    return Ok(Looped::Answered);
                }
            }
        }
        assert_eq!(bytes.len(), self.packet.size() as usize);
        self.packet.answer(tx, status::OKAY);
        self.send(&bytes, rx, pages)
    }

    fn send<M: Memory>(
        &self,
        bytes: &[u8],
        rx: &mut Back<M, Rx>,
        pages: &mut Pages,
    ) -> Result<Looped, Broken> {
        let mut extras = *self.packet.extras();
        extras.headroom = self.headroom;
        let size = bytes.len() as u32;
        let send = RxSend::new(size, self.packet.checksum(), extras, true);
        let mut send = match send {
            Ok(send) => send,
            Err(Unsendable::Size | Unsendable::Slots) => return Ok(Looped::NoRoom),
        };
        if rx.unconsumed().map_err(Broken::Rx)? < send.entries() {
            return Ok(Looped::NoRoom);
        }
        let mut failed = false;
        for _ in 0..send.entries() {
            let request = rx.pop().map_err(Broken::Rx)?.expect("counted");
            let entry = send.next(&request).expect("counted");
            let mut slot = entry.slot();
            if let RxEntry::Data { response, from } = entry {
                let (to, len) = (usize::from(response.offset), response.status as usize);
                match pages.get_mut(&request.gref) {
                    Some(page) => {
                        page[to..to + len].copy_from_slice(&bytes[from as usize..][..len])
                    }
                    None => {
                        failed = true;
                        slot = slot.failed(status::ERROR);
                    }
                }
            }
            rx.push(&slot).expect("asked for");
        }
        if failed {
            return Ok(Looped::Answered);
        }
        Ok(Looped::Sent(bytes.into()))
    }
}

/// The reason that a front end has for a packet of which a page was not there.
pub const NOT_THERE: RxReason = RxReason::Status(status::ERROR);
