// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The back end's side of the control ring: how its front end wants packets hashed and spread over
//! the queues.
//!
//! A request is checked by [`Hashing::begin`] first. Most are answered by that; for some a page of
//! the front end has to be read, and [`Hashing::end`] checks what stood there. A request that is
//! refused changes nothing.

use super::{ctrl, hash, ControlRequest, ControlResponse, Flow, FlowHash, HASH_KEY_SIZE};
use crate::bytes::get_u32;

/// The most entries of the mapping table.
pub const MAX_MAPPING: usize = 128;

/// The most bytes that are read of a page: a part of the mapping table.
pub const MAX_CONTROL_COPY: usize = MAX_MAPPING * 4;

/// The hashes that there are, a set of [`hash`].
pub const HASH_KINDS: u32 = hash::IPV4 | hash::IPV4_TCP | hash::IPV6 | hash::IPV6_TCP;

/// How packets for the front end are hashed, and to which queue each hash goes.
///
/// # Invariants
///
/// - `size` is at most [`MAX_MAPPING`].
/// - `kinds` is within [`HASH_KINDS`].
#[derive(Clone, Debug)]
pub struct Hashing {
    toeplitz: bool,
    kinds: u32,
    key: [u8; HASH_KEY_SIZE],
    size: usize,
    mapping: [u16; MAX_MAPPING],
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlStep {
    /// It is answered.
    Answer(ControlResponse),
    /// It takes `len` bytes, 1 to [`MAX_CONTROL_COPY`], from the start of the page that `gref`
    /// grants: a private copy of them goes to [`Hashing::end`] with `pending`; `None` if they
    /// cannot be read.
    Copy {
        /// Grant reference of the page.
        gref: u32,
        /// Bytes.
        len: usize,
        /// The request.
        pending: PendingControl,
    },
}

/// A request that is in order, but for what it wants read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingControl {
    id: u16,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Key { len: usize },
    Mapping { offset: usize, count: usize },
}

/// A response, with a status of [`ctrl`].
fn respond(id: u16, kind: u16, result: Result<u32, u32>) -> ControlResponse {
    let (status, data) = match result {
        Ok(data) => (ctrl::SUCCESS, data),
        Err(status) => (status, 0),
    };
    ControlResponse {
        id,
        kind,
        status,
        data,
    }
}

impl Hashing {
    /// No hash: the back end spreads packets as it likes.
    pub const fn new() -> Self {
        Self {
            toeplitz: false,
            kinds: 0,
            key: [0; HASH_KEY_SIZE],
            size: 0,
            mapping: [0; MAX_MAPPING],
        }
    }

    /// Checks a request, and does it if that needs nothing else.
    pub fn begin(&mut self, request: &ControlRequest) -> ControlStep {
        let ControlRequest { id, kind, data } = *request;
        let [first, second, third] = data;
        let result = match kind {
            ctrl::SET_HASH_ALGORITHM => self.set_algorithm(first),
            ctrl::GET_HASH_FLAGS if self.toeplitz => Ok(HASH_KINDS),
            ctrl::SET_HASH_FLAGS => self.set_kinds(first),
            ctrl::SET_HASH_KEY if second as usize > HASH_KEY_SIZE => Err(ctrl::BUFFER_OVERFLOW),
            ctrl::SET_HASH_KEY if second == 0 => {
                self.key = [0; HASH_KEY_SIZE];
                Ok(0)
            }
            ctrl::SET_HASH_KEY => {
                let len = second as usize;
                let what = What::Key { len };
                return Self::copy(first, len, id, what);
            }
            ctrl::GET_HASH_MAPPING_SIZE => Ok(MAX_MAPPING as u32),
            ctrl::SET_HASH_MAPPING_SIZE => self.set_size(first),
            ctrl::SET_HASH_MAPPING => match self.part(second, third) {
                Some(What::Mapping { offset, count }) if count > 0 => {
                    let what = What::Mapping { offset, count };
                    return Self::copy(first, count.wrapping_mul(4), id, what);
                }
                Some(_) => Ok(0),
                None => Err(ctrl::INVALID_PARAMETER),
            },
            _ => Err(ctrl::NOT_SUPPORTED),
        };
        ControlStep::Answer(respond(id, kind, result))
    }

    fn copy(gref: u32, len: usize, id: u16, what: What) -> ControlStep {
        let pending = PendingControl { id, what };
        ControlStep::Copy { gref, len, pending }
    }

    /// Does a request with what it wanted read; `queues` is the number of queues.
    pub fn end(
        &mut self,
        pending: &PendingControl,
        bytes: Option<&[u8]>,
        queues: u32,
    ) -> ControlResponse {
        let bytes = bytes.unwrap_or(&[]);
        let (kind, done) = match pending.what {
            What::Key { len } => (ctrl::SET_HASH_KEY, self.set_key(bytes.get(..len))),
            What::Mapping { offset, count } => {
                let table = bytes.get(..count.wrapping_mul(4));
                (
                    ctrl::SET_HASH_MAPPING,
                    self.set_mapping(offset, count, table, queues),
                )
            }
        };
        let result = done.map(|()| 0).ok_or(ctrl::INVALID_PARAMETER);
        respond(pending.id, kind, result)
    }

    fn set_algorithm(&mut self, algorithm: u32) -> Result<u32, u32> {
        self.toeplitz = match algorithm {
            hash::ALGORITHM_NONE => false,
            hash::ALGORITHM_TOEPLITZ => true,
            _ => return Err(ctrl::INVALID_PARAMETER),
        };
        Ok(0)
    }

    fn set_kinds(&mut self, kinds: u32) -> Result<u32, u32> {
        if kinds & !HASH_KINDS != 0 || !self.toeplitz {
            return Err(ctrl::INVALID_PARAMETER);
        }
        self.kinds = kinds;
        Ok(0)
    }

    fn set_size(&mut self, size: u32) -> Result<u32, u32> {
        let size = size as usize;
        if size > MAX_MAPPING {
            return Err(ctrl::INVALID_PARAMETER);
        }
        self.size = size;
        self.mapping = [0; MAX_MAPPING];
        Ok(0)
    }

    /// A part of the mapping table, if the table has it.
    fn part(&self, count: u32, offset: u32) -> Option<What> {
        let end = offset.checked_add(count)?;
        let (offset, count) = (offset as usize, count as usize);
        (end as usize <= self.size).then_some(What::Mapping { offset, count })
    }

    fn set_key(&mut self, bytes: Option<&[u8]>) -> Option<()> {
        let bytes = bytes?;
        self.key = [0; HASH_KEY_SIZE];
        for (to, from) in self.key.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(())
    }

    fn set_mapping(
        &mut self,
        offset: usize,
        count: usize,
        table: Option<&[u8]>,
        queues: u32,
    ) -> Option<()> {
        let table = table?.chunks_exact(4);
        // The size may be another one by now.
        let to = self.mapping.get_mut(..self.size)?.get_mut(offset..)?;
        let to = to.get_mut(..count)?;
        let queue = |bytes: &[u8]| get_u32(bytes, 0);
        if !table.clone().all(|bytes| queue(bytes) < queues) {
            return None;
        }
        for (to, bytes) in to.iter_mut().zip(table) {
            *to = queue(bytes) as u16;
        }
        Some(())
    }

    /// Whether the front end wants packets hashed. If not, the back end spreads them as it likes.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.toeplitz
    }

    /// The hash of an Ethernet frame, of which the headers are enough; `None`: it has none.
    #[inline]
    pub fn hash(&self, frame: &[u8]) -> Option<FlowHash> {
        if !self.toeplitz || self.kinds == 0 {
            return None;
        }
        Flow::parse(frame)?.hash(&self.key, self.kinds)
    }

    /// The queue of a packet with this hash, 0 where it has none; less than `queues`, but 0 if there
    /// are none.
    #[inline]
    pub fn queue(&self, hash: u32, queues: u32) -> u32 {
        let index = hash
            .checked_rem(self.size as u32)
            .map(|index| index as usize);
        match index {
            None => hash.checked_rem(queues).unwrap_or(0),
            // There may be fewer queues by now.
            Some(index) => self
                .mapping
                .get(index)
                .map(|queue| u32::from(*queue))
                .filter(|queue| *queue < queues)
                .unwrap_or(0),
        }
    }

    /// Which hashes are computed, a set of [`hash`].
    pub fn kinds(&self) -> u32 {
        self.kinds
    }

    /// The key.
    pub fn key(&self) -> &[u8; HASH_KEY_SIZE] {
        &self.key
    }

    /// The queue of each hash, by its remainder; empty: the remainder is the queue.
    pub fn mapping(&self) -> &[u16] {
        self.mapping.get(..self.size).unwrap_or(&[])
    }
}

impl Default for Hashing {
    fn default() -> Self {
        Self::new()
    }
}
