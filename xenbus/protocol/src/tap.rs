// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What `/dev/blktap` and a program that attaches to a disk by it say to each other.
//!
//! The same in C: `blktap/blktap.h`; a test compares the two. How it is used, for those who write a
//! program: `Documentation/blktap.md`.
//!
//! A tap has a number of queues, each with a region of memory that the program maps:
//!
//! | byte                 | what                                                                |
//! |----------------------|---------------------------------------------------------------------|
//! | 0                    | front-end ring: the kernel sends the guest's requests, the program answers |
//! | [`RING_BYTES`]       | back-end ring: the program sends requests, the disk answers         |
//! | 2 × [`RING_BYTES`]   | data window                                                         |
//!
//! Both are rings as in [`ring`](crate::ring), with entries of [`ENTRY`] bytes. In the first the
//! kernel is the front end ([`Front`](crate::ring::Front)), the program the back end; in the second
//! it is the other way round. Neither trusts the other.

use crate::ring::{Codec, Layout, TooSmall};

/// Version of all that is in here. A program that was made for another is refused.
pub const VERSION: u32 = 1;

/// Bytes of each ring, its header included.
pub const RING_BYTES: usize = 32768;

/// Bytes of an entry of the rings.
pub const ENTRY: usize = 32;

/// Data is counted in units of so many bytes.
pub const SECTOR_SIZE: usize = 512;

/// The largest data of one request, in sectors: 256 pages.
pub const MAX_SECTORS: u64 = 2048;

/// In place of the offset of data that is not in the window.
pub const NO_DATA: u32 = u32::MAX;

/// Operations. Numbers as in `xen/io/blkif.h`.
pub mod op {
    /// From the disk to the guest.
    pub const READ: u8 = 0;
    /// From the guest to the disk.
    pub const WRITE: u8 = 1;
    /// All writes that were answered before are to be stable.
    pub const FLUSH: u8 = 3;
    /// The sectors' content is of no use any more.
    pub const DISCARD: u8 = 5;
}

/// Flags of a [`Request`] and of a [`Response`].
pub mod flag {
    /// Of a write: all that was answered before and the write itself are to be stable when it is
    /// answered. Nothing else is on its way meanwhile.
    pub const BARRIER: u8 = 1 << 0;
    /// Of a discard: nobody can read the old content any more.
    pub const SECURE: u8 = 1 << 1;
    /// The data is the guest's own pages, those of the front-end request that
    /// [`Request::guest`](super::Request::guest) names, and not the window's. In the response of a
    /// read on the front-end ring: the data is there already.
    pub const GUEST: u8 = 1 << 2;
    /// In a response on the front-end ring: it is not done, the disk is to do it, as if there were
    /// no tap; the program hears no more of it.
    pub const PASS: u8 = 1 << 3;
}

/// Status of a [`Response`], as in `xen/io/blkif.h`.
pub mod status {
    /// Done.
    pub const OKAY: i16 = 0;
    /// It has failed.
    pub const ERROR: i16 = -1;
    /// The disk does not know the operation.
    pub const EOPNOTSUPP: i16 = -2;
}

/// A request, in either ring. Nothing in it is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The sender's own value, which comes back in the response.
    pub id: u32,
    /// One of [`op`].
    pub op: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// First sector on the disk.
    pub sector: u64,
    /// Number of sectors; at most [`MAX_SECTORS`] but for a discard; 0 for a flush.
    pub nr_sectors: u64,
    /// Where its data begins in the window, in sectors; or [`NO_DATA`].
    pub data: u32,
    /// With [`flag::GUEST`], on the back-end ring: the front-end request whose pages are used.
    pub guest: u32,
}

/// A response, in either ring. Nothing in it is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// That of the request.
    pub id: u32,
    /// That of the request; the receiver does not need it.
    pub op: u8,
    /// [`flag::GUEST`], [`flag::PASS`] or 0.
    pub flags: u8,
    /// One of [`status`]; any other value is an error.
    pub status: i16,
}

/// How they lie in a ring, little-endian:
///
/// | request       | response  |
/// |---------------|-----------|
/// | 0 id          | 0 id      |
/// | 4 op          | 4 op      |
/// | 5 flags       | 5 flags   |
/// | 8 sector      | 6 status  |
/// | 16 nr_sectors | 8 end     |
/// | 24 data       |           |
/// | 28 guest      |           |
/// | 32 end        |           |
#[derive(Clone, Copy, Debug, Default)]
pub struct Entries;

/// Number of entries of each ring.
pub fn ring_entries() -> u32 {
    match Layout::new(RING_BYTES, ENTRY) {
        Ok(layout) => layout.entries(),
        Err(TooSmall) => 0,
    }
}

#[inline]
fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..at.wrapping_add(N))
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

#[inline]
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes.get_mut(at..at.wrapping_add(value.len())) {
        to.copy_from_slice(value);
    }
}

impl Codec for Entries {
    type Request = Request;
    type Response = Response;

    #[inline]
    fn request_size(&self) -> usize {
        ENTRY
    }

    #[inline]
    fn response_size(&self) -> usize {
        8
    }

    #[inline]
    fn decode_request(&self, bytes: &[u8]) -> Request {
        let [op, flags] = get(bytes, 4);
        Request {
            id: u32::from_le_bytes(get(bytes, 0)),
            op,
            flags,
            sector: u64::from_le_bytes(get(bytes, 8)),
            nr_sectors: u64::from_le_bytes(get(bytes, 16)),
            data: u32::from_le_bytes(get(bytes, 24)),
            guest: u32::from_le_bytes(get(bytes, 28)),
        }
    }

    #[inline]
    fn encode_request(&self, request: &Request, bytes: &mut [u8]) {
        put(bytes, 0, &request.id.to_le_bytes());
        put(bytes, 4, &[request.op, request.flags]);
        put(bytes, 8, &request.sector.to_le_bytes());
        put(bytes, 16, &request.nr_sectors.to_le_bytes());
        put(bytes, 24, &request.data.to_le_bytes());
        put(bytes, 28, &request.guest.to_le_bytes());
    }

    #[inline]
    fn decode_response(&self, bytes: &[u8]) -> Response {
        let [op, flags] = get(bytes, 4);
        Response {
            id: u32::from_le_bytes(get(bytes, 0)),
            op,
            flags,
            status: i16::from_le_bytes(get(bytes, 6)),
        }
    }

    #[inline]
    fn encode_response(&self, response: &Response, bytes: &mut [u8]) {
        put(bytes, 0, &response.id.to_le_bytes());
        put(bytes, 4, &[response.op, response.flags]);
        put(bytes, 6, &response.status.to_le_bytes());
    }
}

/// Which way requests go. By number, as the ioctls have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// From the guest to the disk; the program sees nothing.
    #[default]
    Passthrough = 0,
    /// From the guest to the program by the front-end ring, from the program to the disk by the
    /// back-end ring, and the responses back.
    Interpose = 1,
    /// From the guest to the program, which answers: it is the disk.
    InterceptFe = 2,
    /// From the program to the disk. The guest's requests wait.
    InterceptBe = 3,
}

/// What becomes of the guest's requests when the program goes. By number, as the ioctls have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Policy {
    /// They wait for the next program, which gets them first, in their order.
    #[default]
    Hold = 0,
    /// They go to the disk, as in [`Mode::Passthrough`].
    Passthrough = 1,
    /// They are answered with an error.
    Error = 2,
}

/// How far a tapped disk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// There is no connected front end.
    #[default]
    Idle = 0,
    /// Requests come.
    Connected = 1,
    /// The disk has been detached from the guest; the tap is of no use any more.
    Gone = 2,
    /// The program has broken a rule of the rings; it is treated as one that has died.
    Broken = 3,
}

macro_rules! from_number {
    ($type:ident, $($name:ident),*) => {
        impl $type {
            /// The one with this number.
            pub fn from_number(number: u32) -> Option<Self> {
                [$($type::$name),*].into_iter().find(|it| *it as u32 == number)
            }
        }
    };
}

from_number!(Mode, Passthrough, Interpose, InterceptFe, InterceptBe);
from_number!(Policy, Hold, Passthrough, Error);
from_number!(State, Idle, Connected, Gone, Broken);

/// The ioctls of `/dev/blktap`, and what they take. All of it is little-endian, without holes, and
/// fields called `reserved` are 0: others are refused, so that they may mean something one day.
pub mod ioctl {
    /// The letter of the ioctls' numbers.
    pub const TYPE: u8 = 0xbc;

    /// `_IOWR(TYPE, 0, Attach)`: takes a disk. Once for each open file.
    pub const ATTACH: u8 = 0;
    /// `_IOW(TYPE, 1, u64)`: a bit for each queue: there is something in its rings.
    pub const KICK: u8 = 1;
    /// `_IOWR(TYPE, 2, Info)`: about a tapped disk.
    pub const INFO: u8 = 2;
    /// `_IOWR(TYPE, 3, QueueInfo)`: about one of its queues.
    pub const QUEUE_INFO: u8 = 3;
    /// `_IOW(TYPE, 4, Set)`: changes something.
    pub const SET: u8 = 4;
    /// `_IOW(TYPE, 5, Geometry)`: what the disk is, where the program is the disk.
    pub const SET_GEOMETRY: u8 = 5;

    /// Of [`ATTACH`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[repr(C)]
    pub struct Attach {
        /// In: [`VERSION`](super::VERSION). Out: the kernel's, also if that is not the same
        /// (`EPROTO`).
        pub version: u32,
        /// The guest's domain.
        pub domid: u32,
        /// The number of the virtual device, as in `device/vbd/51712`.
        pub handle: u32,
        /// [`WAIT`], [`NO_DATA`], [`POLLS`].
        pub flags: u32,
        /// A [`Mode`](super::Mode).
        pub mode: u32,
        /// A [`Policy`](super::Policy).
        pub policy: u32,
        /// In: bytes of the window that each queue is to have for the guest's data, 0 for as many
        /// as is usual. Out: how many it has; a multiple of a page, at least 1 MiB.
        pub guest_bytes: u32,
        /// In: bytes of the window that the program wants for itself, behind those. Out: a
        /// multiple of a page.
        pub own_bytes: u32,
        /// Out: how many queues there are, 1 to 64.
        pub nr_queues: u32,
        /// 0.
        pub reserved: u32,
        /// Out: queue `i` is mapped at the offset `i` × this; it is as large as a region.
        pub region_bytes: u64,
    }

    /// Of [`Attach::flags`]: wait until there is such a disk and no other program has it; with
    /// `O_NONBLOCK`, fail with `EAGAIN`.
    pub const WAIT: u32 = 1 << 0;
    /// Of [`Attach::flags`]: the program does not look at data: requests on the front-end ring
    /// have none in the window, and can be passed on with [`GUEST`](super::flag::GUEST) only.
    pub const NO_DATA: u32 = 1 << 1;
    /// Of [`Attach::flags`]: the program polls the file before it sleeps, and looks at the rings after each
    /// [`KICK`]: these two serve the guest's ring, and no thread is woken for that.
    pub const POLLS: u32 = 1 << 2;

    /// Of [`INFO`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[repr(C)]
    pub struct Info {
        /// The guest's domain. Of a file that is attached: out only, its own.
        pub domid: u32,
        /// The number of the virtual device.
        pub handle: u32,
        /// [`NEXT`] or 0.
        pub flags: u32,
        /// A [`State`](super::State).
        pub state: u32,
        /// A [`Mode`](super::Mode).
        pub mode: u32,
        /// A [`Policy`](super::Policy).
        pub policy: u32,
        /// The process that has attached, 0 for none.
        pub pid: u32,
        /// How many queues the tap has.
        pub nr_queues: u32,
        /// How many queues the front end has connected.
        pub nr_connected: u32,
        /// How often a program has attached.
        pub generation: u32,
        /// What the guest sees.
        pub geometry: Geometry,
    }

    /// Of [`Info::flags`]: the tapped disk that comes after this one, in the order of `domid` and
    /// `handle`; `ENOENT` after the last one.
    pub const NEXT: u32 = 1 << 0;

    /// Of [`SET_GEOMETRY`], and in [`Info`].
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[repr(C)]
    pub struct Geometry {
        /// Size of the disk, in sectors of 512 bytes. May change while the guest runs.
        pub sectors: u64,
        /// Bytes of a logical block: 512, 1024, 2048 or 4096.
        pub sector_size: u32,
        /// Bytes of a physical block, at least as many.
        pub physical_sector_size: u32,
        /// Of [`geometry`].
        pub features: u32,
        /// Of a discard, in bytes; 0 is `sector_size`.
        pub discard_granularity: u32,
    }

    /// Of [`Geometry::features`].
    pub mod geometry {
        /// It knows flushes and barriers.
        pub const FLUSH: u32 = 1 << 0;
        /// It knows discards.
        pub const DISCARD: u32 = 1 << 1;
        /// It knows secure discards.
        pub const SECURE_DISCARD: u32 = 1 << 2;
        /// It cannot be written.
        pub const READ_ONLY: u32 = 1 << 3;
        /// It is a CD-ROM drive.
        pub const CDROM: u32 = 1 << 4;
        /// Its medium can be taken out.
        pub const REMOVABLE: u32 = 1 << 5;
    }

    /// Buckets of [`QueueInfo::latency`].
    pub const BUCKETS: usize = 24;

    /// Of [`QUEUE_INFO`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(C)]
    pub struct QueueInfo {
        /// In, of a file that is not attached: the guest's domain.
        pub domid: u32,
        /// In, of a file that is not attached: the number of the virtual device.
        pub handle: u32,
        /// In: which queue.
        pub queue: u32,
        /// The guest's requests that have not been answered, whether or not they have been sent.
        pub fe_in_flight: u32,
        /// The program's requests that the disk has not answered.
        pub be_in_flight: u32,
        /// Indices of the front-end ring, as in its header.
        pub fe_req_prod: u32,
        /// As above.
        pub fe_rsp_prod: u32,
        /// Indices of the back-end ring.
        pub be_req_prod: u32,
        /// As above.
        pub be_rsp_prod: u32,
        /// Responses for requests that nobody had sent, or had answered; late ones excepted.
        pub refused: u32,
        /// The guest's requests that have come to the tap, so not those in passthrough mode, since it
        /// was made: reads, writes, flushes, discards.
        pub requests: [u64; 4],
        /// Sectors that were read, and written.
        pub sectors: [u64; 2],
        /// How long the program took to answer: bucket `i` counts what took less than 2^i µs, and
        /// is not in the one before; the last one counts the rest.
        pub latency: [u64; BUCKETS],
    }

    impl Default for QueueInfo {
        fn default() -> Self {
            QueueInfo {
                domid: 0,
                handle: 0,
                queue: 0,
                fe_in_flight: 0,
                be_in_flight: 0,
                fe_req_prod: 0,
                fe_rsp_prod: 0,
                be_req_prod: 0,
                be_rsp_prod: 0,
                refused: 0,
                requests: [0; 4],
                sectors: [0; 2],
                latency: [0; BUCKETS],
            }
        }
    }

    /// Of [`SET`]. A file that is attached changes its own disk; another one, any, and needs
    /// `CAP_SYS_ADMIN`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[repr(C)]
    pub struct Set {
        /// The guest's domain; of no use where the file is attached.
        pub domid: u32,
        /// The number of the virtual device; of no use where the file is attached.
        pub handle: u32,
        /// One of [`set`].
        pub what: u32,
        /// A [`Mode`](super::Mode), a [`Policy`](super::Policy), or 0.
        pub value: u32,
    }

    /// Of [`Set::what`].
    pub mod set {
        /// The mode. Returns when no request goes the old way any more.
        pub const MODE: u32 = 0;
        /// The policy.
        pub const POLICY: u32 = 1;
        /// Takes the tap away: requests that are not answered go to the disk, or fail where there
        /// is none; then as if it had never been there.
        pub const REMOVE: u32 = 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive() {
        let request = Request {
            id: 0x0102_0304,
            op: op::DISCARD,
            flags: flag::SECURE,
            sector: 1 << 40,
            nr_sectors: 1 << 41,
            data: 77,
            guest: 88,
        };
        let mut bytes = [0; ENTRY];
        Entries.encode_request(&request, &mut bytes);
        assert_eq!(Entries.decode_request(&bytes), request);
        let response = Response {
            id: 5,
            op: op::READ,
            flags: flag::GUEST,
            status: status::EOPNOTSUPP,
        };
        let mut bytes = [0; 8];
        Entries.encode_response(&response, &mut bytes);
        assert_eq!(Entries.decode_response(&bytes), response);
    }

    #[test]
    fn sizes() {
        assert_eq!(ring_entries(), 512);
        assert_eq!(core::mem::size_of::<ioctl::Attach>(), 48);
        assert_eq!(core::mem::size_of::<ioctl::Geometry>(), 24);
        assert_eq!(core::mem::size_of::<ioctl::Info>(), 64);
        assert_eq!(core::mem::size_of::<ioctl::QueueInfo>(), 280);
        assert_eq!(core::mem::size_of::<ioctl::Set>(), 16);
    }
}
