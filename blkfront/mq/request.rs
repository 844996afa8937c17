// SPDX-License-Identifier: GPL-2.0

//! A request of the block layer: what it asks for, its data, and the access that another domain has
//! been given to its pages.

use super::disk::Operations;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    bindings,
    ffi::{c_uint, c_void},
    page::BorrowedPage,
    prelude::*,
};
use xenbus::{
    grant::{Grant, GrantReserve},
    shared::SharedPage,
};

// Only pointers to what is opaque here cross.
#[allow(improper_ctypes)]
extern "C" {
    fn blkfront_helper_segments(
        rq: *mut bindings::request,
        skip: c_uint,
        to: *mut RawSegment,
        max: c_uint,
        more: *mut bool,
    ) -> c_uint;
    fn blkfront_helper_add_to_batch(
        rq: *mut bindings::request,
        batch: *mut bindings::io_comp_batch,
    ) -> bool;
}

/// `REQ_OP_MASK`, a macro with a cast: where the operation stands in a request's flags.
const OP_MASK: u32 = (1 << 8) - 1;

/// What a request is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Fill the segments.
    Read,
    /// Write the segments; `fua`: they are durable when the request completes.
    Write { fua: bool },
    /// Make durable whatever has been completed so far.
    Flush,
    /// Forget the contents of the sectors; `secure`: so that nobody can ever read them again.
    Discard { secure: bool },
    /// Something that was not offered.
    Other,
}

/// A request that the driver has been given: it ends by [`Request::end`], [`Request::complete`],
/// [`Request::requeue`], or, as an error, by being dropped.
///
/// # Invariants
///
/// The pointer is to a request that has been started and that nobody else ends.
pub(crate) struct Request<T: Operations>(NonNull<bindings::request>, PhantomData<T>);

// SAFETY: A request may be ended from any context.
unsafe impl<T: Operations> Send for Request<T> {}

// SAFETY: Shared access only reads what is constant while the request is in flight.
unsafe impl<T: Operations> Sync for Request<T> {}

impl<T: Operations> Request<T> {
    /// # Safety
    ///
    /// `rq` has been started, and is the new value's to end.
    pub(super) unsafe fn from_raw(rq: NonNull<bindings::request>) -> Self {
        // INVARIANT: By the safety requirements.
        Request(rq, PhantomData)
    }

    pub(super) fn as_raw(&self) -> NonNull<bindings::request> {
        self.0
    }

    /// The operation.
    #[inline]
    pub(crate) fn op(&self) -> Op {
        // SAFETY: By the type invariant.
        let flags = unsafe { (*self.0.as_ptr()).cmd_flags };
        match flags & OP_MASK {
            bindings::req_op_REQ_OP_READ => Op::Read,
            bindings::req_op_REQ_OP_WRITE => Op::Write {
                fua: flags & (1 << bindings::req_flag_bits___REQ_FUA) != 0,
            },
            bindings::req_op_REQ_OP_FLUSH => Op::Flush,
            bindings::req_op_REQ_OP_DISCARD => Op::Discard { secure: false },
            bindings::req_op_REQ_OP_SECURE_ERASE => Op::Discard { secure: true },
            _ => Op::Other,
        }
    }

    /// The first sector, in units of 512 bytes.
    #[inline]
    pub(crate) fn sector(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.as_ptr()).__sector }
    }

    /// The number of sectors of 512 bytes.
    #[inline]
    pub(crate) fn sectors(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.as_ptr()).__data_len >> 9 }
    }

    /// A number that no other request of the same hardware queue has while this one is in flight;
    /// below the depth of the tag set.
    #[inline]
    pub(crate) fn tag(&self) -> u32 {
        // SAFETY: By the type invariant.
        // CAST: A request that has been started has a tag, which is not negative.
        unsafe { (*self.0.as_ptr()).tag as u32 }
    }

    /// Stops the hardware queue that the request came from, until
    /// [`RequestQueue::start_stopped`](super::RequestQueue::start_stopped).
    pub(crate) fn stop_queue(&self) {
        // SAFETY: By the type invariant; a request in flight has a hardware queue.
        unsafe { bindings::blk_mq_stop_hw_queue((*self.0.as_ptr()).mq_hctx) };
    }

    /// Ends the request at once. Not with a lock held that [`Operations`] takes.
    pub(crate) fn end(self, result: Result) {
        // SAFETY: By the type invariant, which is given up.
        unsafe { bindings::blk_mq_end_request(self.into_raw(), blk_status(result)) };
    }

    /// Has the request ended, in soft interrupt context. In any context.
    pub(crate) fn complete(self, result: Result) {
        let rq = self.into_raw();
        // SAFETY: By the type invariant, which is given up; the per-request data is a `Pdu` and
        // nobody else looks at it before the completion.
        unsafe {
            pdu(rq).write(blk_status(result));
            if !bindings::blk_mq_complete_request_remote(rq) {
                complete_rq(rq);
            }
        }
    }

    /// Has the request, which went well, ended with others: in soft interrupt context, or when
    /// `batch` is dropped. In any context.
    #[inline]
    pub(crate) fn complete_in(self, batch: &mut Batch) {
        let rq = self.into_raw();
        // SAFETY: As in `complete`; what is in the batch, its drop ends.
        unsafe {
            pdu(rq).write(bindings::BLK_STS_OK as bindings::blk_status_t);
            if !bindings::blk_mq_complete_request_remote(rq)
                && !blkfront_helper_add_to_batch(rq, &mut batch.0)
            {
                complete_rq(rq);
            }
        }
    }

    /// Gives the request back to be queued again, at once if the queue is not stopped. In any
    /// context.
    pub(crate) fn requeue(self) {
        // SAFETY: By the type invariant, which is given up.
        unsafe { bindings::blk_mq_requeue_request(self.into_raw(), true) };
    }

    pub(super) fn into_raw(self) -> *mut bindings::request {
        let rq = self.0.as_ptr();
        core::mem::forget(self);
        rq
    }
}

impl<T: Operations> Drop for Request<T> {
    fn drop(&mut self) {
        // INVARIANT: The copy takes the place of what is being dropped.
        Request::<T>(self.0, PhantomData).complete(Err(EIO));
    }
}

/// Requests that end together when it is dropped, which is cheaper than one by one. Not to be dropped
/// with a lock held that [`Operations`] takes.
pub(crate) struct Batch(bindings::io_comp_batch);

impl Batch {
    /// With no request.
    pub(crate) fn new() -> Self {
        Batch(bindings::io_comp_batch::default())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if self.0.complete.is_some() {
            // SAFETY: What is in the batch, `Request::complete_in` has put there, all complete.
            unsafe { bindings::blk_mq_end_request_batch(&mut self.0) };
        }
    }
}

/// Per-request data: the status that a completed request ends with.
pub(super) type Pdu = bindings::blk_status_t;

/// # Safety
///
/// `rq` must be a request of a [`TagSet`](super::TagSet).
unsafe fn pdu(rq: *mut bindings::request) -> *mut Pdu {
    // SAFETY: The tag set asked for room for a `Pdu`, which follows the request.
    unsafe { rq.add(1).cast() }
}

pub(super) fn blk_status(result: Result) -> bindings::blk_status_t {
    match result {
        Ok(()) => bindings::BLK_STS_OK as bindings::blk_status_t,
        // SAFETY: A pure function.
        Err(e) => unsafe { bindings::errno_to_blk_status(e.to_errno()) },
    }
}

/// # Safety
///
/// `rq` must be a request that its driver has completed, with the status in its per-request data.
pub(super) unsafe extern "C" fn complete_rq(rq: *mut bindings::request) {
    // SAFETY: By the safety requirements.
    unsafe { bindings::blk_mq_end_request(rq, pdu(rq).read()) };
}

/// A part of a request's data that lies in one page; `struct blkfront_segment`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawSegment {
    page: *mut bindings::page,
    data: *mut c_void,
    offset: c_uint,
    len: c_uint,
}

/// Room for segments of one request.
struct SegmentBuffer(KVec<RawSegment>);

// SAFETY: Nobody looks at what the pointers in there are to, but the owner of the request.
unsafe impl Send for SegmentBuffer {}

// SAFETY: As above.
unsafe impl Sync for SegmentBuffer {}

impl SegmentBuffer {
    /// Room for `max` segments. Sleeps.
    fn new(max: u16) -> Result<Self> {
        let none = RawSegment {
            page: ptr::null_mut(),
            data: ptr::null_mut(),
            offset: 0,
            len: 0,
        };
        Ok(SegmentBuffer(KVec::from_elem(
            none,
            max.into(),
            GFP_KERNEL,
        )?))
    }
}

/// A request and the access that another domain has been given to its pages. The request comes out
/// of it, and so ends, only after the access has. Used for one request after the other.
///
/// # Invariants
///
/// The first `found` of `buffer` are segments of `rq`; without a request, `found` is 0.
pub(crate) struct Granted<T: Operations> {
    // Dropped in this order.
    grants: KVec<Grant>,
    buffer: SegmentBuffer,
    found: usize,
    rq: Option<Request<T>>,
}

impl<T: Operations> Granted<T> {
    /// Without a request; `segments` of it at a time can be looked at, and access to at most
    /// `grants` pages can be given. Sleeps.
    pub(crate) fn new(segments: u16, grants: u16) -> Result<Self> {
        Ok(Granted {
            grants: KVec::with_capacity(grants.into(), GFP_KERNEL)?,
            buffer: SegmentBuffer::new(segments)?,
            found: 0,
            rq: None,
        })
    }

    /// Puts a request in.
    ///
    /// # Errors
    ///
    /// The request, if there is another one.
    #[inline]
    pub(crate) fn put(&mut self, rq: Request<T>) -> core::result::Result<(), Request<T>> {
        if self.rq.is_some() {
            return Err(rq);
        }
        self.rq = Some(rq);
        Ok(())
    }

    /// The request.
    #[inline]
    pub(crate) fn request(&self) -> Option<&Request<T>> {
        self.rq.as_ref()
    }

    /// The request's segments but for the first `skip` ones: at most `max`, and what there is room
    /// for.
    #[inline]
    pub(crate) fn segments(&mut self, skip: u16, max: u16) -> Segments<'_> {
        let (mut count, mut more) = (0, false);
        if let Some(rq) = &self.rq {
            let max = self.buffer.0.len().min(max.into());
            // SAFETY: The request is in flight, and the buffer has room for `max`.
            count = unsafe {
                blkfront_helper_segments(
                    rq.0.as_ptr(),
                    skip.into(),
                    self.buffer.0.as_mut_ptr(),
                    max as c_uint,
                    &mut more,
                )
            };
        }
        // INVARIANT: Just filled in, from the request.
        self.found = count as usize;
        Segments {
            more,
            ..self.same_segments()
        }
    }

    /// Those segments that [`Self::segments`] gave last; it is not said again whether there are more.
    #[inline]
    pub(crate) fn same_segments(&mut self) -> Segments<'_> {
        // INVARIANT: By the type invariant, of a request that stays where it is meanwhile.
        Segments {
            list: self.buffer.0.get(..self.found).unwrap_or_default(),
            more: false,
            grants: &mut self.grants,
        }
    }

    /// Ends the access. `Some`: the reference of a page that the other domain still has mapped.
    #[inline]
    pub(crate) fn end_access(&mut self) -> Option<u32> {
        let mut mapped = None;
        self.grants.retain(|grant| {
            let still = !grant.end();
            if still {
                mapped = Some(grant.gref());
            }
            still
        });
        mapped
    }

    /// Takes the request out. Pages that are still mapped are left to the grant table, which keeps
    /// them from being allocated again until they are not; what their owner does with them
    /// meanwhile the other domain sees, and may change.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Request<T>> {
        self.grants.clear();
        // INVARIANT: There is no request any more.
        self.found = 0;
        self.rq.take()
    }
}

/// Segments of a request, in order; each lies in one page.
///
/// # Invariants
///
/// The pointers of `list` are to pages, and to bytes in them, that belong to a request, which stays
/// in flight for `'a`; after that, it ends only after what is in `grants` has.
pub(crate) struct Segments<'a> {
    list: &'a [RawSegment],
    more: bool,
    grants: &'a mut KVec<Grant>,
}

/// Where a segment lies in its page: offset and number of bytes; together at most the page size.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub offset: u32,
    pub len: u32,
}

impl Segments<'_> {
    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether the request has more after these.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    /// Where the `i`-th lies in its page.
    #[inline]
    pub(crate) fn place(&self, i: usize) -> Option<Place> {
        let segment = self.list.get(i)?;
        Some(Place {
            offset: segment.offset,
            len: segment.len,
        })
    }

    /// Gives `domid` access to the page of the `i`-th, and returns the grant reference.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the reserve is empty, or the request has more pages than there was to be room
    /// for; `EINVAL` when there is no such segment.
    #[inline]
    pub(crate) fn grant(
        &mut self,
        i: usize,
        reserve: &mut GrantReserve,
        domid: u16,
        readonly: bool,
    ) -> Result<u32> {
        let page = NonNull::new(self.list.get(i).ok_or(EINVAL)?.page).ok_or(EINVAL)?;
        // SAFETY: By the type invariant. The pages of a request stay allocated, for its data, until
        // it ends, which the grant does before.
        let grant = unsafe { reserve.grant(domid, &BorrowedPage::from_raw(page), readonly)? };
        let gref = grant.gref();
        self.grants
            .push_within_capacity(grant)
            .map_err(|_| ENOSPC)?;
        Ok(gref)
    }

    /// Copies the `i`-th to the same place in `page`.
    #[inline]
    pub(crate) fn copy_to(&self, i: usize, page: &mut SharedPage) {
        if let Some(s) = self.list.get(i) {
            // SAFETY: By the type invariant.
            unsafe { page.copy_in(s.offset as usize, s.data.cast(), s.len as usize) };
        }
    }

    /// Fills the `i`-th from the same place in `page`.
    #[inline]
    pub(crate) fn copy_from(&mut self, i: usize, page: &SharedPage) {
        if let Some(s) = self.list.get(i) {
            // SAFETY: By the type invariant; the data of a request is there to be written, if it
            // is a read, and nobody relies on it before the request ends.
            unsafe { page.copy_out(s.offset as usize, s.data.cast(), s.len as usize) };
        }
    }
}
