// SPDX-License-Identifier: GPL-2.0
//! Options, until the client has chosen the export. There is one, whatever name it asks for.

use super::proto::{self, flag, info, option, reply};
use super::requests::MAX_DATA;
use super::Server;
use crate::net::{Receiver, Sender};
use crate::{Buf, Info};
use std::io;

/// An option's data is at most so long: names have 4096 bytes.
const MAX_OPTION: u32 = 8192;

/// Whether the client goes on to send requests.
pub(super) async fn run(
    server: &Server,
    receiver: &mut Receiver,
    sender: &Sender,
) -> io::Result<bool> {
    let flags = proto::FIXED_NEWSTYLE | proto::NO_ZEROES;
    let mut hello = Vec::new();
    hello.extend(proto::NBDMAGIC.to_be_bytes());
    hello.extend(proto::IHAVEOPT.to_be_bytes());
    hello.extend(flags.to_be_bytes());
    sender.send(&hello, None).await?;
    let Ok(client) = receiver.array().await else {
        return Ok(false); // only a look
    };
    let client = u32::from_be_bytes(client);
    if client & !u32::from(flags) != 0 {
        return Err(io::Error::other(format!(
            "unknown client flags {client:#x}"
        )));
    }
    loop {
        let Ok(magic) = receiver.array().await else {
            return Ok(false);
        };
        if u64::from_be_bytes(magic) != proto::IHAVEOPT {
            return Err(io::Error::other("this is no option"));
        }
        let name = u32::from_be_bytes(receiver.array().await?);
        let len = u32::from_be_bytes(receiver.array().await?);
        if len > MAX_OPTION {
            return Err(io::Error::other(format!("an option of {len} bytes")));
        }
        let mut data = Buf::new(len as usize);
        receiver.receive(&mut data).await?;
        let answer = |kind: u32, data: &[u8]| {
            let mut bytes = Vec::new();
            bytes.extend(proto::REPLY_MAGIC.to_be_bytes());
            bytes.extend(name.to_be_bytes());
            bytes.extend(kind.to_be_bytes());
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(data);
            bytes
        };
        let disk = server.disk.info();
        match name {
            option::EXPORT_NAME => {
                let mut bytes = export(&disk);
                if client & u32::from(proto::NO_ZEROES) == 0 {
                    bytes.extend([0; 124]);
                }
                sender.send(&bytes, None).await?;
                return Ok(true);
            }
            option::INFO | option::GO => {
                if !well_formed(&data) {
                    sender.send(&answer(reply::ERR_INVALID, &[]), None).await?;
                    continue;
                }
                let mut export_info = info::EXPORT.to_be_bytes().to_vec();
                export_info.extend(export(&disk));
                let mut blocks = info::BLOCK_SIZE.to_be_bytes().to_vec();
                blocks.extend(disk.block_size.to_be_bytes());
                blocks.extend(disk.physical_block_size.max(4096).to_be_bytes());
                blocks.extend(MAX_DATA.to_be_bytes());
                let mut bytes = answer(reply::INFO, &export_info);
                bytes.extend(answer(reply::INFO, &blocks));
                bytes.extend(answer(reply::ACK, &[]));
                sender.send(&bytes, None).await?;
                if name == option::GO {
                    return Ok(true);
                }
            }
            option::LIST if len == 0 => {
                // The export's name is empty, and so is its length.
                let mut bytes = answer(reply::SERVER, &0u32.to_be_bytes());
                bytes.extend(answer(reply::ACK, &[]));
                sender.send(&bytes, None).await?;
            }
            option::ABORT => {
                sender.send(&answer(reply::ACK, &[]), None).await?;
                return Ok(false);
            }
            option::LIST => sender.send(&answer(reply::ERR_INVALID, &[]), None).await?,
            _ => sender.send(&answer(reply::ERR_UNSUP, &[]), None).await?,
        }
    }
}

/// The data of `INFO` and `GO`: a name with its length, and a list of 16-bit numbers with its.
fn well_formed(data: &[u8]) -> bool {
    let Some((len, rest)) = data.split_first_chunk() else {
        return false;
    };
    let count = rest.get(u32::from_be_bytes(*len) as usize..);
    let Some((count, rest)) = count.and_then(|rest| rest.split_first_chunk()) else {
        return false;
    };
    rest.len() == 2 * usize::from(u16::from_be_bytes(*count))
}

/// The size, and what the export can.
fn export(disk: &Info) -> Vec<u8> {
    let mut flags = flag::HAS_FLAGS | flag::FLUSH | flag::FUA | flag::MULTI_CONN;
    if disk.read_only {
        flags |= flag::READ_ONLY;
    } else {
        flags |= flag::WRITE_ZEROES;
        if disk.discard {
            flags |= flag::TRIM;
        }
    }
    let mut bytes = disk.size.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asks_for_is_looked_at() {
        assert!(well_formed(&[0, 0, 0, 0, 0, 0]));
        assert!(well_formed(&[0, 0, 0, 1, b'a', 0, 1, 0, 3]));
        assert!(!well_formed(&[]));
        assert!(!well_formed(&[0, 0, 0, 2, b'a', 0, 0]));
        assert!(!well_formed(&[0xff, 0xff, 0xff, 0xff, 0, 0]));
        assert!(!well_formed(&[0, 0, 0, 0, 0, 1, 0]));
        assert!(!well_formed(&[0, 0, 0, 0, 0, 0, 0]));
    }
}
