// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The front end's check of a response: was it asked for, and for this operation?

use super::Response;

/// The requests that a front end has sent and has no response to: per `id` the operation. The ids
/// are the driver's own, say the tags of its block queue, or those that [`Pending::start_any`]
/// finds.
///
/// `T` is the table of the operations, `[None; N]` or one of a size that is known at run time only
/// ([`Pending::with`]); ids are below its length, which must not change.
#[derive(Clone, Debug)]
pub struct Pending<T> {
    operations: T,
}

/// The id is in use, or not below the number of ids; or, of [`Pending::start_any`], all are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// A response that no request calls for. The back end is not to be trusted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadResponse {
    /// The id is one that is never sent.
    UnknownId {
        /// The id.
        id: u64,
    },
    /// There is no such request: never sent, or answered already.
    NotPending {
        /// The id.
        id: u64,
    },
    /// The operation is not that of the request.
    WrongOperation {
        /// The id.
        id: u64,
        /// The operation in the request.
        sent: u8,
        /// The operation in the response.
        answered: u8,
    },
}

impl<const N: usize> Pending<[Option<u8>; N]> {
    /// A table of `N` ids without a pending request.
    pub const fn new() -> Self {
        Self {
            operations: [None; N],
        }
    }
}

impl<T: AsRef<[Option<u8>]> + AsMut<[Option<u8>]>> Pending<T> {
    /// The requests that `operations` says are pending: to begin with, all `None`.
    pub const fn with(operations: T) -> Self {
        Self { operations }
    }

    /// Notes that a request is being sent.
    #[inline]
    pub fn start(&mut self, id: usize, operation: u8) -> Result<(), Busy> {
        match self.operations.as_mut().get_mut(id) {
            Some(entry @ None) => {
                *entry = Some(operation);
                Ok(())
            }
            _ => Err(Busy),
        }
    }

    /// Notes that a request is being sent, with an id that is free.
    pub fn start_any(&mut self, operation: u8) -> Result<usize, Busy> {
        let id = self
            .operations
            .as_ref()
            .iter()
            .position(Option::is_none)
            .ok_or(Busy)?;
        self.start(id, operation)?;
        Ok(id)
    }

    /// Checks a response. Its request is pending no more then, and its id is returned.
    #[inline]
    pub fn finish(&mut self, response: &Response) -> Result<usize, BadResponse> {
        let id = response.id;
        let index = usize::try_from(id).map_err(|_| BadResponse::UnknownId { id })?;
        let entry = self
            .operations
            .as_mut()
            .get_mut(index)
            .ok_or(BadResponse::UnknownId { id })?;
        let sent = entry.ok_or(BadResponse::NotPending { id })?;
        if sent != response.operation {
            let answered = response.operation;
            return Err(BadResponse::WrongOperation { id, sent, answered });
        }
        *entry = None;
        Ok(index)
    }

    /// Takes back a request that was not sent after all. Says whether it was pending.
    pub fn cancel(&mut self, id: usize) -> bool {
        let entry = self.operations.as_mut().get_mut(id);
        entry.and_then(Option::take).is_some()
    }

    /// The pending requests: `(id, operation)` in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u8)> + '_ {
        self.operations
            .as_ref()
            .iter()
            .enumerate()
            .filter_map(|(id, operation)| Some((id, (*operation)?)))
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.operations.as_ref().iter().all(Option::is_none)
    }
}

impl<const N: usize> Default for Pending<[Option<u8>; N]> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::op::{READ, WRITE};
    use super::*;

    fn response(id: u64, operation: u8) -> Response {
        Response {
            id,
            operation,
            status: 0,
        }
    }

    #[test]
    fn a_response_ends_its_request_once() {
        let mut pending = Pending::<[_; 4]>::new();
        pending.start(3, WRITE).unwrap();
        assert_eq!(pending.start(3, READ), Err(Busy));
        assert_eq!(pending.finish(&response(3, WRITE)), Ok(3));
        let twice = pending.finish(&response(3, WRITE));
        assert_eq!(twice, Err(BadResponse::NotPending { id: 3 }));
        assert!(pending.is_empty());
    }

    #[test]
    fn responses_to_nothing() {
        let mut pending = Pending::<[_; 4]>::new();
        pending.start(0, READ).unwrap();
        let never = BadResponse::NotPending { id: 1 };
        assert_eq!(pending.finish(&response(1, READ)), Err(never));
        for id in [4, 1 << 32, u64::MAX] {
            let unknown = BadResponse::UnknownId { id };
            assert_eq!(pending.finish(&response(id, READ)), Err(unknown));
        }
        let wrong = BadResponse::WrongOperation {
            id: 0,
            sent: READ,
            answered: WRITE,
        };
        assert_eq!(pending.finish(&response(0, WRITE)), Err(wrong));
        assert!(pending.iter().eq([(0, READ)]), "still pending");
    }

    #[test]
    fn ids_run_out_and_come_back() {
        let mut pending = Pending::<[_; 2]>::new();
        assert_eq!(pending.start(2, READ), Err(Busy));
        assert_eq!(pending.start_any(READ), Ok(0));
        assert_eq!(pending.start_any(WRITE), Ok(1));
        assert_eq!(pending.start_any(READ), Err(Busy));
        assert!(pending.iter().eq([(0, READ), (1, WRITE)]));
        assert!(pending.cancel(0));
        assert!(!pending.cancel(0));
        assert!(!pending.cancel(2));
        assert_eq!(pending.start_any(WRITE), Ok(0));
    }

    #[test]
    fn a_table_of_any_size() {
        let mut pending = Pending::with(std::vec![None; 3]);
        assert_eq!(pending.start(2, READ), Ok(()));
        assert_eq!(pending.start(3, READ), Err(Busy));
        assert_eq!(pending.finish(&response(2, READ)), Ok(2));
        let unknown = BadResponse::UnknownId { id: 3 };
        assert_eq!(pending.finish(&response(3, READ)), Err(unknown));
        assert!(pending.is_empty());
    }
}
