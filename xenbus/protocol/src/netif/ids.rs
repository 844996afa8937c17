// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The front end's check of a transmit response: was it asked for?

use super::{status, TxResponse};

/// The ids of the transmit requests that a front end has sent and has no response to.
///
/// `T` is the table, `[Id; N]` or one of a size that is known at run time only; ids are below its
/// length, at most 2¹⁶ − 2. A free id is found in constant time.
#[derive(Clone, Debug)]
pub struct TxIds<T> {
    ids: T,
    free: u16,
    /// Entries of extra information that have no response yet.
    extras: u32,
}

/// What is known of an id: the next free one, or that it is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(u16);

impl Id {
    /// For a table that is given to [`TxIds::new`].
    pub const UNUSED: Self = Self(NONE);
}

const NONE: u16 = u16::MAX;
const PENDING: u16 = u16::MAX - 1;

/// All ids are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoId;

/// A response that no request calls for. The back end is not to be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTxResponse {
    /// The id is one that is never sent.
    UnknownId(u16),
    /// There is no such request: never sent, or answered already.
    NotPending(u16),
    /// There is no extra information that this could be about.
    NoExtra,
}

impl<T: AsRef<[Id]> + AsMut<[Id]>> TxIds<T> {
    /// A table without a pending request, whatever is in `ids`.
    pub fn new(mut ids: T) -> Self {
        let table = ids.as_mut();
        let len = table.len().min(usize::from(PENDING)) as u16;
        let mut next = 0u16;
        for id in table.iter_mut() {
            next = next.saturating_add(1);
            *id = Id(if next < len { next } else { NONE });
        }
        Self {
            ids,
            free: if len > 0 { 0 } else { NONE },
            extras: 0,
        }
    }

    /// An id for a request that is being sent.
    #[inline]
    pub fn start(&mut self) -> Result<u16, NoId> {
        let free = self.free;
        if free == NONE {
            return Err(NoId);
        }
        let id = self.ids.as_mut().get_mut(usize::from(free)).ok_or(NoId)?;
        self.free = id.0;
        *id = Id(PENDING);
        Ok(free)
    }

    /// Notes that `count` entries of extra information are being sent.
    #[inline]
    pub fn start_extras(&mut self, count: u32) {
        self.extras = self.extras.wrapping_add(count);
    }

    /// Checks a response. Its request is pending no more then, and its id is returned; `None` if it
    /// is to extra information.
    #[inline]
    pub fn finish(&mut self, response: &TxResponse) -> Result<Option<u16>, BadTxResponse> {
        if response.status == status::NULL {
            self.extras = self.extras.checked_sub(1).ok_or(BadTxResponse::NoExtra)?;
            return Ok(None);
        }
        self.end(response.id)?;
        Ok(Some(response.id))
    }

    /// Takes back an id of [`Self::start`] that has not been sent after all.
    pub fn cancel(&mut self, id: u16) {
        // What is not pending is left alone.
        let _ = self.end(id);
    }

    #[inline]
    fn end(&mut self, id: u16) -> Result<(), BadTxResponse> {
        let entry = self.ids.as_mut().get_mut(usize::from(id));
        let entry = entry.ok_or(BadTxResponse::UnknownId(id))?;
        if entry.0 != PENDING {
            return Err(BadTxResponse::NotPending(id));
        }
        *entry = Id(self.free);
        self.free = id;
        Ok(())
    }

    /// The ids of the pending requests, in their order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        let ids = self.ids.as_ref().iter().enumerate();
        // No id beyond 16 bits is ever given out.
        ids.filter_map(|(id, entry)| (entry.0 == PENDING).then_some(id as u16))
    }
}
