// SPDX-License-Identifier: GPL-2.0
//! Numbers and layouts of NBD, for servers and clients: `doc/proto.md` of the project nbd. All is
//! big-endian.

use std::io;

/// The first word of a server.
pub const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
/// The second one, and the first one of an option.
pub const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
/// The second one of a server of the old style.
pub const OLDSTYLE: u64 = 0x0000_4202_8186_1253;
/// The first word of a reply to an option.
pub const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// The first word of a request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The first word of a simple reply to it.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// Of the handshake, the server's and the client's flag: options are answered.
pub const FIXED_NEWSTYLE: u16 = 1 << 0;
/// And: no 124 zeroes follow an export.
pub const NO_ZEROES: u16 = 1 << 1;

/// What a client says before it has an export.
pub mod option {
    /// It wants this one; there is no reply but the export.
    pub const EXPORT_NAME: u32 = 1;
    /// It wants none.
    pub const ABORT: u32 = 2;
    /// Which are there?
    pub const LIST: u32 = 3;
    /// What is this one like?
    pub const INFO: u32 = 6;
    /// It wants this one.
    pub const GO: u32 = 7;
}

/// What a server answers to an option.
pub mod reply {
    /// It is done.
    pub const ACK: u32 = 1;
    /// An export of [`option::LIST`](super::option::LIST).
    pub const SERVER: u32 = 2;
    /// One of [`info`](super::info).
    pub const INFO: u32 = 3;
    /// A bit that all errors have.
    pub const ERROR: u32 = 1 << 31;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = ERROR + 1;
    /// The option makes no sense.
    pub const ERR_INVALID: u32 = ERROR + 3;
}

/// What is told about an export.
pub mod info {
    /// Its size (`u64`) and its flags (`u16`).
    pub const EXPORT: u16 = 0;
    /// The smallest, the preferred and the largest block (`u32` each).
    pub const BLOCK_SIZE: u16 = 3;
}

/// The flags of an export.
pub mod flag {
    /// Always there.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// It cannot be written.
    pub const READ_ONLY: u16 = 1 << 1;
    /// It knows [`command::FLUSH`](super::command::FLUSH).
    pub const FLUSH: u16 = 1 << 2;
    /// It knows [`COMMAND_FUA`](super::COMMAND_FUA).
    pub const FUA: u16 = 1 << 3;
    /// It knows [`command::TRIM`](super::command::TRIM).
    pub const TRIM: u16 = 1 << 5;
    /// It knows [`command::WRITE_ZEROES`](super::command::WRITE_ZEROES).
    pub const WRITE_ZEROES: u16 = 1 << 6;
    /// A flush on one connection is for all.
    pub const MULTI_CONN: u16 = 1 << 8;
}

/// What a request asks for.
pub mod command {
    /// Data follows its reply.
    pub const READ: u16 = 0;
    /// Data follows the request.
    pub const WRITE: u16 = 1;
    /// The end; there is no reply.
    pub const DISCONNECT: u16 = 2;
    /// Writes that were answered are to be stable.
    pub const FLUSH: u16 = 3;
    /// A discard.
    pub const TRIM: u16 = 4;
    /// A write of zeroes.
    pub const WRITE_ZEROES: u16 = 6;
}

/// Flag of a request: it is to be stable when it is answered.
pub const COMMAND_FUA: u16 = 1 << 0;
/// Flag of a write of zeroes: room is to be kept for them.
pub const COMMAND_NO_HOLE: u16 = 1 << 1;

/// Errors of a reply, with the numbers of Linux.
pub const EPERM: u32 = 1;
/// The disk has failed.
pub const EIO: u32 = 5;
/// There is no memory.
pub const ENOMEM: u32 = 12;
/// The request makes no sense.
pub const EINVAL: u32 = 22;
/// There is no room, or it is past the end.
pub const ENOSPC: u32 = 28;
/// The request is too long.
pub const EOVERFLOW: u32 = 75;
/// The request is not known.
pub const ENOTSUP: u32 = 95;
/// The server asks to be left, which is no fault of the request.
pub const ESHUTDOWN: u32 = 108;

/// A reply's number for the error of a disk.
pub fn errno(error: &io::Error) -> u32 {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => EPERM,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ENOSPC,
        io::ErrorKind::OutOfMemory => ENOMEM,
        io::ErrorKind::Unsupported => ENOTSUP,
        _ => EIO,
    }
}

/// The error of a disk for a reply's number.
pub fn error(number: u32) -> io::Error {
    io::Error::from_raw_os_error(match number {
        EPERM | ENOMEM | EINVAL | ENOSPC => number as i32,
        EOVERFLOW => EINVAL as i32,
        // Its number has no such kind.
        ENOTSUP => return io::ErrorKind::Unsupported.into(),
        _ => EIO as i32,
    })
}

/// A request's header. The data of a write follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// [`COMMAND_FUA`] and the like.
    pub flags: u16,
    /// One of [`command`].
    pub command: u16,
    /// The client's own, comes back in the reply.
    pub cookie: u64,
    /// Its first byte on the disk.
    pub at: u64,
    /// How many bytes.
    pub len: u32,
}

impl Request {
    /// Bytes of a header.
    pub const BYTES: usize = 28;

    /// One without a cookie, that is with 0.
    pub const fn new(command: u16, flags: u16, at: u64, len: u32) -> Self {
        Self {
            flags,
            command,
            cookie: 0,
            at,
            len,
        }
    }

    /// As it is sent.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.at.to_be_bytes());
        bytes[24..].copy_from_slice(&self.len.to_be_bytes());
        bytes
    }

    /// `None` if this is no request.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk()?;
        let (command, rest) = rest.split_first_chunk()?;
        let (cookie, rest) = rest.split_first_chunk()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (len, _) = rest.split_first_chunk()?;
        (u32::from_be_bytes(*magic) == REQUEST_MAGIC).then_some(Self {
            flags: u16::from_be_bytes(*flags),
            command: u16::from_be_bytes(*command),
            cookie: u64::from_be_bytes(*cookie),
            at: u64::from_be_bytes(*at),
            len: u32::from_be_bytes(*len),
        })
    }

    /// The header of its reply.
    pub fn reply(&self, error: u32) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&error.to_be_bytes());
        bytes[8..].copy_from_slice(&self.cookie.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_was_encoded() {
        let request = Request {
            cookie: 0x0102_0304_0506_0708,
            ..Request::new(command::WRITE_ZEROES, COMMAND_FUA, 1 << 40, 4096)
        };
        let mut bytes = request.encode();
        let head = [0x25, 0x60, 0x95, 0x13, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(bytes[..16], head);
        assert_eq!(Request::decode(&bytes), Some(request));
        bytes[3] ^= 1;
        assert_eq!(Request::decode(&bytes), None);
    }

    #[test]
    fn errors_go_there_and_back() {
        for number in [EPERM, EIO, ENOMEM, ENOSPC, ENOTSUP] {
            assert_eq!(errno(&error(number)), number);
        }
        assert_eq!(error(EOVERFLOW).raw_os_error(), Some(EINVAL as i32));
    }
}
