// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The functions of `c/ring.c`: the macros of `ring.h`, compiled for both ABIs; and that of
//! `c/toeplitz.c`.

use crate::{end, Page};
use protocol::blkif::{op, Abi, Body, RawRequest, Response, Segment};
use std::ffi::{c_int, c_uint, c_void};

/// `struct plain` of `ring.c`: all that can be in a request.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Plain {
    id: u64,
    sector: u64,
    nr_sectors: u64,
    gref: [u32; 11],
    handle: u16,
    nr_segments: u16,
    operation: u8,
    indirect_op: u8,
    flag: u8,
    first: [u8; 11],
    last: [u8; 11],
}

/// `struct plain_response` of `ring.c`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct PlainResponse {
    id: u64,
    operation: u8,
    status: i16,
}

/// `blkif_front_ring_t` or `blkif_back_ring_t`: private indices, size and pointer to the page.
#[derive(Default)]
#[repr(C)]
struct RawEnd {
    produced: c_uint,
    consumed: c_uint,
    entries: c_uint,
    shared: usize,
}

/// The functions for one ABI.
struct Functions {
    front_init: unsafe extern "C" fn(*mut RawEnd, *mut c_void, usize, c_uint),
    back_attach: unsafe extern "C" fn(*mut RawEnd, *mut c_void, usize),
    front_push: unsafe extern "C" fn(*mut RawEnd, *const Plain) -> c_int,
    front_publish: unsafe extern "C" fn(*mut RawEnd) -> c_int,
    front_pop: unsafe extern "C" fn(*mut RawEnd, *mut PlainResponse) -> c_int,
    front_check: unsafe extern "C" fn(*mut RawEnd) -> c_int,
    front_free: unsafe extern "C" fn(*const RawEnd) -> c_uint,
    front_overflow: unsafe extern "C" fn(*const RawEnd) -> c_int,
    back_push: unsafe extern "C" fn(*mut RawEnd, *const PlainResponse) -> c_int,
    back_publish: unsafe extern "C" fn(*mut RawEnd) -> c_int,
    back_pop: unsafe extern "C" fn(*mut RawEnd, *mut Plain) -> c_int,
    back_check: unsafe extern "C" fn(*mut RawEnd) -> c_int,
    back_overflow: unsafe extern "C" fn(*const RawEnd) -> c_int,
}

macro_rules! functions {
    ($table:ident, $prefix:literal) => {
        static $table: Functions = {
            extern "C" {
                #[link_name = concat!($prefix, "_front_init")]
                fn front_init(end: *mut RawEnd, page: *mut c_void, size: usize, start: c_uint);
                #[link_name = concat!($prefix, "_back_attach")]
                fn back_attach(end: *mut RawEnd, page: *mut c_void, size: usize);
                #[link_name = concat!($prefix, "_front_push")]
                fn front_push(end: *mut RawEnd, from: *const Plain) -> c_int;
                #[link_name = concat!($prefix, "_front_publish")]
                fn front_publish(end: *mut RawEnd) -> c_int;
                #[link_name = concat!($prefix, "_front_pop")]
                fn front_pop(end: *mut RawEnd, to: *mut PlainResponse) -> c_int;
                #[link_name = concat!($prefix, "_front_check")]
                fn front_check(end: *mut RawEnd) -> c_int;
                #[link_name = concat!($prefix, "_front_free")]
                fn front_free(end: *const RawEnd) -> c_uint;
                #[link_name = concat!($prefix, "_front_overflow")]
                fn front_overflow(end: *const RawEnd) -> c_int;
                #[link_name = concat!($prefix, "_back_push")]
                fn back_push(end: *mut RawEnd, from: *const PlainResponse) -> c_int;
                #[link_name = concat!($prefix, "_back_publish")]
                fn back_publish(end: *mut RawEnd) -> c_int;
                #[link_name = concat!($prefix, "_back_pop")]
                fn back_pop(end: *mut RawEnd, to: *mut Plain) -> c_int;
                #[link_name = concat!($prefix, "_back_check")]
                fn back_check(end: *mut RawEnd) -> c_int;
                #[link_name = concat!($prefix, "_back_overflow")]
                fn back_overflow(end: *const RawEnd) -> c_int;
            }
            Functions {
                front_init,
                back_attach,
                front_push,
                front_publish,
                front_pop,
                front_check,
                front_free,
                front_overflow,
                back_push,
                back_publish,
                back_pop,
                back_check,
                back_overflow,
            }
        };
    };
}

functions!(X86_64, "x86_64");
functions!(X86_32, "x86_32");

fn functions(abi: Abi) -> &'static Functions {
    match abi {
        Abi::X86_32 => &X86_32,
        Abi::X86_64 | Abi::Native => &X86_64,
    }
}

/// The hash that `netif.h` comes with.
pub fn toeplitz(key: &[u8], data: &[u8]) -> u32 {
    extern "C" {
        fn oracle_toeplitz(
            key: *const u8,
            key_len: c_uint,
            data: *const u8,
            data_len: c_uint,
        ) -> u32;
    }
    let (key_len, data_len) = (key.len() as c_uint, data.len() as c_uint);
    // SAFETY: so many bytes may be read.
    unsafe { oracle_toeplitz(key.as_ptr(), key_len, data.as_ptr(), data_len) }
}

/// A front end made of the macros of `ring.h`.
pub struct Front {
    raw: RawEnd,
    c: &'static Functions,
    _page: Page,
}

/// A back end made of the macros of `ring.h`.
pub struct Back {
    raw: RawEnd,
    c: &'static Functions,
    _page: Page,
}

// SAFETY, of all the calls below: the pointers are to values of the types that `ring.c` declares,
// and `raw` holds the pointer of a page that is kept by `_page` and used by one thread only.

impl Front {
    /// Makes a ring in the page, all its indices at `start`.
    pub fn new_at(page: Page, abi: Abi, start: u32) -> Self {
        let (mut raw, c) = (RawEnd::default(), functions(abi));
        // SAFETY: see above.
        unsafe { (c.front_init)(&mut raw, page.as_ptr().cast(), 4096, start) };
        Self {
            raw,
            c,
            _page: page,
        }
    }
}

impl Back {
    /// Attaches to the ring in the page.
    pub fn attach(page: Page, abi: Abi) -> Self {
        let (mut raw, c) = (RawEnd::default(), functions(abi));
        // SAFETY: see above.
        unsafe { (c.back_attach)(&mut raw, page.as_ptr().cast(), 4096) };
        Self {
            raw,
            c,
            _page: page,
        }
    }
}

impl end::Front for Front {
    fn push(&mut self, request: &RawRequest) -> bool {
        // SAFETY: see above.
        unsafe { (self.c.front_push)(&mut self.raw, &Plain::from(request)) != 0 }
    }

    fn publish(&mut self) -> bool {
        // SAFETY: see above.
        unsafe { (self.c.front_publish)(&mut self.raw) != 0 }
    }

    fn pop(&mut self) -> Option<Response> {
        let mut to = PlainResponse::default();
        // SAFETY: see above.
        let some = unsafe { (self.c.front_pop)(&mut self.raw, &mut to) != 0 };
        some.then_some(Response {
            id: to.id,
            operation: to.operation,
            status: to.status,
        })
    }

    fn check(&mut self) -> bool {
        // SAFETY: see above.
        unsafe { (self.c.front_check)(&mut self.raw) != 0 }
    }

    fn overrun(&mut self) -> bool {
        // SAFETY: see above.
        unsafe { (self.c.front_overflow)(&self.raw) != 0 }
    }

    fn free(&self) -> u32 {
        // SAFETY: see above.
        unsafe { (self.c.front_free)(&self.raw) }
    }
}

impl end::Back for Back {
    fn push(&mut self, response: &Response) -> bool {
        let Response {
            id,
            operation,
            status,
        } = *response;
        // SAFETY: see above.
        unsafe {
            (self.c.back_push)(
                &mut self.raw,
                &PlainResponse {
                    id,
                    operation,
                    status,
                },
            ) != 0
        }
    }

    fn publish(&mut self) -> bool {
        // SAFETY: see above.
        unsafe { (self.c.back_publish)(&mut self.raw) != 0 }
    }

    fn pop(&mut self) -> Option<RawRequest> {
        let mut to = Plain::default();
        // SAFETY: see above.
        let some = unsafe { (self.c.back_pop)(&mut self.raw, &mut to) != 0 };
        some.then(|| to.into())
    }

    fn check(&mut self) -> bool {
        // SAFETY: see above.
        unsafe { (self.c.back_check)(&mut self.raw) != 0 }
    }

    fn overrun(&mut self) -> bool {
        // SAFETY: see above.
        unsafe { (self.c.back_overflow)(&self.raw) != 0 }
    }
}

impl From<&RawRequest> for Plain {
    fn from(request: &RawRequest) -> Self {
        let plain = Self {
            operation: request.operation,
            id: request.id,
            ..Self::default()
        };
        match request.body {
            Body::Transfer {
                nr_segments,
                handle,
                sector,
                segments,
            } => Self {
                nr_segments: nr_segments.into(),
                handle,
                sector,
                gref: segments.map(|s| s.gref),
                first: segments.map(|s| s.first),
                last: segments.map(|s| s.last),
                ..plain
            },
            Body::Discard {
                flag,
                handle,
                sector,
                nr_sectors,
            } => Self {
                flag,
                handle,
                sector,
                nr_sectors,
                ..plain
            },
            Body::Indirect {
                operation,
                nr_segments,
                handle,
                sector,
                grefs,
            } => {
                let mut gref = [0; 11];
                gref[..grefs.len()].copy_from_slice(&grefs);
                Self {
                    indirect_op: operation,
                    nr_segments,
                    handle,
                    sector,
                    gref,
                    ..plain
                }
            }
            Body::Other => plain,
        }
    }
}

impl From<Plain> for RawRequest {
    fn from(plain: Plain) -> Self {
        let Plain {
            id,
            operation,
            handle,
            sector,
            nr_segments,
            ..
        } = plain;
        let body = match operation {
            op::READ | op::WRITE | op::WRITE_BARRIER | op::FLUSH_DISKCACHE => Body::Transfer {
                nr_segments: nr_segments as u8,
                handle,
                sector,
                segments: std::array::from_fn(|i| Segment {
                    gref: plain.gref[i],
                    first: plain.first[i],
                    last: plain.last[i],
                }),
            },
            op::DISCARD => Body::Discard {
                flag: plain.flag,
                handle,
                sector,
                nr_sectors: plain.nr_sectors,
            },
            op::INDIRECT => Body::Indirect {
                operation: plain.indirect_op,
                nr_segments,
                handle,
                sector,
                grefs: std::array::from_fn(|i| plain.gref[i]),
            },
            _ => Body::Other,
        };
        Self {
            operation,
            id,
            body,
        }
    }
}
