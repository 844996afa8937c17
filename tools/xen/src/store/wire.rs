// SPDX-License-Identifier: GPL-2.0
//! xenstore's messages: a 16-byte header and a payload of strings, `io/xs_wire.h`.

use std::io::{self, Error, ErrorKind, Read};

/// A message's payload is at most this long, in bytes.
pub(crate) const PAYLOAD_MAX: usize = 4096;

/// The message types in use, `enum xsd_sockmsg_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    Directory = 1,
    Read = 2,
    GetPerms = 3,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    Write = 11,
    Mkdir = 12,
    Rm = 13,
    SetPerms = 14,
    WatchEvent = 15,
    Error = 16,
}

/// A received message. Its kind is a plain number: new kinds may come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) tx: u32,
    pub(crate) payload: Vec<u8>,
}

/// A whole message, to be written in one call.
///
/// # Errors
/// E2BIG where the payload is too long.
pub(crate) fn encode(kind: Kind, id: u32, tx: u32, parts: &[&[u8]]) -> io::Result<Vec<u8>> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    if len > PAYLOAD_MAX {
        return Err(Error::from_raw_os_error(libc::E2BIG));
    }
    let mut bytes = Vec::with_capacity(16 + len);
    for word in [kind as u32, id, tx, len as u32] {
        bytes.extend(word.to_ne_bytes());
    }
    parts.iter().for_each(|p| bytes.extend(*p));
    Ok(bytes)
}

/// Reads one message.
pub(crate) fn decode(from: &mut impl Read) -> io::Result<Message> {
    let mut words = [0u32; 4];
    for word in &mut words {
        let mut b = [0; 4];
        from.read_exact(&mut b)?;
        *word = u32::from_ne_bytes(b);
    }
    let [kind, id, tx, len] = words;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > PAYLOAD_MAX {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "xenstore message too long",
        ));
    }
    let mut payload = vec![0; len];
    from.read_exact(&mut payload)?;
    Ok(Message {
        kind,
        id,
        tx,
        payload,
    })
}

/// The strings of a payload that ends each with a NUL byte.
pub(crate) fn strings(payload: &[u8]) -> Vec<String> {
    let payload = payload.strip_suffix(&[0]).unwrap_or(payload);
    if payload.is_empty() {
        return Vec::new();
    }
    payload
        .split(|b| *b == 0)
        .map(|s| String::from_utf8_lossy(s).into_owned())
        .collect()
}

/// The error that an error message's text stands for: `xsd_errors` of the header.
pub(crate) fn errno(payload: &[u8]) -> Error {
    let text = String::from_utf8_lossy(payload.strip_suffix(&[0]).unwrap_or(payload)).into_owned();
    let number = match text.as_str() {
        "EINVAL" => libc::EINVAL,
        "EACCES" => libc::EACCES,
        "EEXIST" => libc::EEXIST,
        "EISDIR" => libc::EISDIR,
        "ENOENT" => libc::ENOENT,
        "ENOMEM" => libc::ENOMEM,
        "ENOSPC" => libc::ENOSPC,
        "EIO" => libc::EIO,
        "ENOTEMPTY" => libc::ENOTEMPTY,
        "ENOSYS" => libc::ENOSYS,
        "EROFS" => libc::EROFS,
        "EBUSY" => libc::EBUSY,
        "EAGAIN" => libc::EAGAIN,
        "EISCONN" => libc::EISCONN,
        "E2BIG" => libc::E2BIG,
        "EPERM" => libc::EPERM,
        _ => return Error::other(text),
    };
    Error::from_raw_os_error(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        let bytes = encode(Kind::Write, 7, 3, &[b"a/b\0", b"value"]).unwrap();
        assert_eq!(bytes.len(), 16 + 9);
        let m = decode(&mut bytes.as_slice()).unwrap();
        assert_eq!(
            m,
            Message {
                kind: 11,
                id: 7,
                tx: 3,
                payload: b"a/b\0value".to_vec()
            }
        );
        assert!(encode(Kind::Write, 0, 0, &[&[0; 4097]]).is_err());
    }

    #[test]
    fn a_long_or_short_message_is_an_error() {
        let mut bytes = encode(Kind::Read, 0, 0, &[b"abc"]).unwrap();
        assert!(decode(&mut &bytes[..18]).is_err());
        bytes[12..16].copy_from_slice(&4097u32.to_ne_bytes());
        assert!(decode(&mut bytes.as_slice()).is_err());
    }

    #[test]
    fn payloads_are_split() {
        assert_eq!(strings(b"a\0bc\0"), ["a", "bc"]);
        assert!(strings(b"").is_empty());
        assert_eq!(errno(b"ENOENT\0").raw_os_error(), Some(libc::ENOENT));
        assert_eq!(errno(b"EWHAT\0").to_string(), "EWHAT");
    }
}
