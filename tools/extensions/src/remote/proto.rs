// SPDX-License-Identifier: GPL-2.0
//! The client's side of NBD: the handshake, and replies.

use std::io;
use tap::nbd::proto::{
    flag, info, option, reply, FIXED_NEWSTYLE, IHAVEOPT, NBDMAGIC, NO_ZEROES, OLDSTYLE,
    REPLY_MAGIC, SIMPLE_REPLY_MAGIC,
};
use tap::net::{Receiver, Sender};
use tap::{Buf, Info};

/// A reply to an option has at most so many bytes of data.
const MAX_OPTION: u32 = 64 << 10;

/// An export, as the server has described it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    pub info: Info,
    /// Of `flag`.
    pub flags: u16,
    /// Bytes of data that a request may have.
    pub max: u32,
}

impl Export {
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

pub fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The error and the cookie of the next reply; the data of a read that has not failed follows.
pub async fn next_reply(receiver: &mut Receiver) -> io::Result<(u32, u64)> {
    let magic = u32::from_be_bytes(receiver.array().await?);
    let error = u32::from_be_bytes(receiver.array().await?);
    let cookie = u64::from_be_bytes(receiver.array().await?);
    match magic {
        SIMPLE_REPLY_MAGIC => Ok((error, cookie)),
        _ => Err(broken(format!("{magic:#x} begins no reply"))),
    }
}

/// Chooses the export `name`.
pub async fn handshake(receiver: &mut Receiver, sender: &Sender, name: &str) -> io::Result<Export> {
    if u64::from_be_bytes(receiver.array().await?) != NBDMAGIC {
        return Err(broken("this is no NBD server"));
    }
    match u64::from_be_bytes(receiver.array().await?) {
        IHAVEOPT => (),
        OLDSTYLE => return Err(broken("it only speaks the old style of NBD")),
        _ => return Err(broken("this is no NBD server")),
    }
    let server = u16::from_be_bytes(receiver.array().await?);
    let flags = u32::from(server & (FIXED_NEWSTYLE | NO_ZEROES));
    sender.send(&flags.to_be_bytes(), None).await?;
    if server & FIXED_NEWSTYLE != 0 {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend(name.as_bytes());
        data.extend(1u16.to_be_bytes());
        data.extend(info::BLOCK_SIZE.to_be_bytes());
        sender.send(&request(option::GO, &data), None).await?;
        if let Some(export) = go(receiver).await? {
            return Ok(export);
        }
    }
    sender
        .send(&request(option::EXPORT_NAME, name.as_bytes()), None)
        .await?;
    let size = u64::from_be_bytes(receiver.array().await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other(format!("it has no export \"{name}\"")),
        _ => error,
    })?);
    let exported = u16::from_be_bytes(receiver.array().await?);
    if flags & u32::from(NO_ZEROES) == 0 {
        receiver.receive(&mut Buf::new(124)).await?;
    }
    export(size, exported, None)
}

fn request(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = IHAVEOPT.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The replies to `GO`; `None` if the server does not know it.
async fn go(receiver: &mut Receiver) -> io::Result<Option<Export>> {
    let (mut exported, mut blocks) = (None, None);
    loop {
        let magic = u64::from_be_bytes(receiver.array().await?);
        let number = u32::from_be_bytes(receiver.array().await?);
        let kind = u32::from_be_bytes(receiver.array().await?);
        let len = u32::from_be_bytes(receiver.array().await?);
        if magic != REPLY_MAGIC || number != option::GO || len > MAX_OPTION {
            return Err(broken("this is no reply to an option"));
        }
        let mut data = Buf::new(len as usize);
        receiver.receive(&mut data).await?;
        match kind {
            reply::INFO => match data.split_first_chunk() {
                Some((kind, rest)) => match (u16::from_be_bytes(*kind), rest.len()) {
                    (info::EXPORT, 10) => exported = Some((u64_at(rest, 0), u16_at(rest, 8))),
                    (info::BLOCK_SIZE, 12) => {
                        blocks = Some([u32_at(rest, 0), u32_at(rest, 4), u32_at(rest, 8)]);
                    }
                    _ => (),
                },
                None => return Err(broken("an empty information")),
            },
            reply::ACK => {
                let (size, flags) = exported.ok_or_else(|| broken("no size"))?;
                return export(size, flags, blocks).map(Some);
            }
            reply::ERR_UNSUP => return Ok(None),
            _ if kind & reply::ERROR != 0 => {
                let text = String::from_utf8_lossy(&data);
                let text = if text.is_empty() {
                    "it refuses the export"
                } else {
                    &text
                };
                return Err(io::Error::other(format!(
                    "{text} (error {})",
                    kind & !reply::ERROR
                )));
            }
            _ => (),
        }
    }
}

/// `blocks` are the smallest, the preferred and the largest.
fn export(size: u64, flags: u16, blocks: Option<[u32; 3]>) -> io::Result<Export> {
    let [min, preferred, max] = blocks.unwrap_or([512, 4096, 32 << 20]);
    let block_size = min.max(512);
    if !block_size.is_power_of_two() || block_size > 4096 {
        return Err(broken(format!(
            "it has blocks of {min} bytes; at most 4096 can be"
        )));
    }
    let physical = match preferred.is_power_of_two() {
        true => preferred.clamp(block_size, 1 << 20),
        false => block_size,
    };
    let info = Info {
        block_size,
        physical_block_size: physical,
        read_only: flags & flag::READ_ONLY != 0,
        discard: flags & flag::TRIM != 0 && flags & flag::READ_ONLY == 0,
        discard_granularity: physical,
        ..Info::new(size / u64::from(block_size) * u64::from(block_size))
    };
    // Whole blocks, also of the largest block size that there can be.
    let max = max.clamp(4096, 32 << 20) / 4096 * 4096;
    Ok(Export { info, flags, max })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |it| u64::from_be_bytes(*it))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |it| u32::from_be_bytes(*it))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |it| u16::from_be_bytes(*it))
}
