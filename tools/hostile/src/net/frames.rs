// SPDX-License-Identifier: GPL-2.0
//! Frames: those by which an honest end shows that it is one, and garbage.

use crate::random::Random;

/// A hardware address.
pub(crate) type Mac = [u8; 6];
/// An IPv4 address.
pub(crate) type Ip = [u8; 4];

pub(crate) const BROADCAST: Mac = [0xff; 6];
/// Bytes of an Ethernet header.
pub(crate) const ETH: usize = 14;
/// Bytes of an IPv4 header without options.
const IP: usize = 20;

/// Who sends to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) from: (Mac, Ip),
    pub(crate) to: (Mac, Ip),
}

/// What has come, as far as it is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Who has the last address? The first two ask.
    ArpRequest(Mac, Ip, Ip),
    /// The first two belong together.
    ArpReply(Mac, Ip),
    /// An answer to an echo request, with its number, and what was in it.
    EchoReply(u16, Vec<u8>),
    /// Anything else, of this type.
    Other(u16),
}

fn eth(to: Mac, from: Mac, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64);
    frame.extend(to);
    frame.extend(from);
    frame.extend(kind.to_be_bytes());
    frame
}

/// The Internet checksum.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    !folded(bytes, 0)
}

/// The sum of `bytes` and `start`, without the complement.
fn folded(bytes: &[u8], start: u32) -> u16 {
    let word = |pair: &[u8]| (u32::from(pair[0]) << 8) | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum = bytes.chunks(2).map(word).sum::<u32>() + start;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn arp(operation: u16, way: Way, to: Mac, asked: Mac) -> Vec<u8> {
    let mut frame = eth(to, way.from.0, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(way.from.0);
    frame.extend(way.from.1);
    frame.extend(asked);
    frame.extend(way.to.1);
    frame
}

/// Asks all who has the address at the end of the way.
pub(crate) fn arp_request(way: Way) -> Vec<u8> {
    arp(1, way, BROADCAST, [0; 6])
}

/// Says that the address at the start of the way has its hardware address.
pub(crate) fn arp_reply(way: Way) -> Vec<u8> {
    arp(2, way, way.to.0, way.to.0)
}

/// An IPv4 header and what is behind it.
pub(crate) fn ip(way: Way, protocol: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(((IP + payload.len()) as u16).to_be_bytes());
    header.extend(id.to_be_bytes());
    header.extend([0, 0, 64, protocol, 0, 0]);
    header.extend(way.from.1);
    header.extend(way.to.1);
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = eth(way.to.0, way.from.0, 0x0800);
    frame.extend(header);
    frame.extend(payload);
    frame
}

/// The number of an echo request whose answer nobody waits for; others are below 2^15.
pub(crate) const NOBODY: u16 = 0xffff;

/// An echo request with `payload`, of a number of its own.
pub(crate) fn echo_request(way: Way, number: u16, payload: &[u8]) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x60, 0x0d];
    icmp.extend(number.to_be_bytes());
    icmp.extend(payload);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    ip(way, 1, number, &icmp)
}

/// A TCP segment for a port where nobody listens, whose checksum is left blank, as for segmentation:
/// the field holds the sum of the pseudo header.
pub(crate) fn tcp(way: Way, payload: usize) -> Vec<u8> {
    let length = 20 + payload;
    let mut segment = vec![
        0x9c, 0x40, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x20, 0,
    ];
    segment.extend([0; 4]);
    let mut pseudo = Vec::new();
    pseudo.extend(way.from.1);
    pseudo.extend(way.to.1);
    let sum = folded(&pseudo, 6 + length as u32);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment.resize(length, 0x5a);
    ip(way, 6, 7, &segment)
}

/// The same over IPv6, between addresses of no meaning.
pub(crate) fn tcp6(way: Way, payload: usize) -> Vec<u8> {
    let length = (20 + payload) as u16;
    let mut frame = eth(way.to.0, way.from.0, 0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([6, 64]);
    for last in [1, 2] {
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    frame.extend([
        0x9c, 0x40, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x20, 0,
    ]);
    frame.resize(ETH + 40 + usize::from(length), 0);
    frame
}

/// The type of [`program`]'s frames.
pub(crate) const PROGRAM: u16 = 0x88b5;

/// A frame of `len` bytes, at least 20, for the XDP program `verdicts` (tools/xdp/xdp.h), which does `op`
/// to it; `number` is what that needs.
pub(crate) fn program(way: Way, op: u8, number: u32, len: usize) -> Vec<u8> {
    let mut frame = eth(way.to.0, way.from.0, PROGRAM);
    frame.extend([op, 0]);
    frame.extend(number.to_le_bytes());
    frame.extend((frame.len()..len).map(|at| (at % 251) as u8));
    frame
}

/// Looks at a frame.
pub(crate) fn parse(frame: &[u8]) -> Frame {
    let Some(kind) = frame.get(12..14) else {
        return Frame::Other(0);
    };
    let kind = u16::from_be_bytes([kind[0], kind[1]]);
    let body = &frame[ETH..];
    match kind {
        0x0806 if body.len() >= 28 => {
            let mac = std::array::from_fn(|i| body[8 + i]);
            let at = |from: usize| -> Ip { std::array::from_fn(|i| body[from + i]) };
            match body[7] {
                1 => Frame::ArpRequest(mac, at(14), at(24)),
                2 => Frame::ArpReply(mac, at(14)),
                _ => Frame::Other(kind),
            }
        }
        // As the kernel sends them: without options, in one piece.
        0x0800 if body.len() >= IP + 8 && body[0] == 0x45 && body[9] == 1 && body[IP] == 0 => {
            let end = usize::from(u16::from_be_bytes([body[2], body[3]])).min(body.len());
            let number = u16::from_be_bytes([body[IP + 6], body[IP + 7]]);
            Frame::EchoReply(number, body.get(IP + 8..end).unwrap_or(&[]).to_vec())
        }
        _ => Frame::Other(kind),
    }
}

/// Bytes that tell where they are, others for another `number`.
pub(crate) fn pattern(number: u16, len: usize) -> Vec<u8> {
    let one = |i: usize| (i as u8).wrapping_mul(31) ^ ((i >> 8) as u8) ^ (number as u8);
    (0..len).map(one).collect()
}

/// A frame of an honest kind, the kinds in turn by `round`, of which a few bytes are changed and
/// perhaps the end is missing. Not the addresses: others' traffic is to be left alone.
pub(crate) fn garbled(way: Way, round: usize, random: &mut Random) -> Vec<u8> {
    let mut frame = match round % 5 {
        0 => tcp(way, 100),
        1 => tcp6(way, 100),
        2 => ip(way, 17, 1, &[0; 64]),
        3 => echo_request(way, NOBODY, &[3; 100]),
        _ => arp_request(way),
    };
    for _ in 0..1 + random.below(4) {
        let at = 12 + random.below(frame.len() as u64 - 12) as usize;
        frame[at] = random.bits() as u8;
    }
    if random.one_in(2) {
        frame.truncate(ETH + random.below((frame.len() - ETH) as u64) as usize);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way = Way {
        from: ([2, 0, 0, 0, 0, 1], [10, 9, 0, 7]),
        to: ([2, 0, 0, 0, 0, 2], [10, 9, 0, 1]),
    };

    #[test]
    fn arp_is_understood() {
        let request = arp_request(WAY);
        assert_eq!(request.len(), 42);
        let want = Frame::ArpRequest(WAY.from.0, WAY.from.1, WAY.to.1);
        assert_eq!(parse(&request), want);
        let reply = arp_reply(WAY);
        assert_eq!(parse(&reply), Frame::ArpReply(WAY.from.0, WAY.from.1));
        assert!((0..request.len()).all(|len| parse(&request[..len]) != want));
    }

    #[test]
    fn echoes_have_checksums() {
        let mut frame = echo_request(WAY, 77, &pattern(77, 1001));
        assert_eq!(checksum(&frame[ETH..ETH + IP]), 0);
        assert_eq!(checksum(&frame[ETH + IP..]), 0);
        assert_eq!(parse(&frame), Frame::Other(0x0800));
        // As an answer to it looks.
        frame[ETH + IP] = 0;
        assert_eq!(parse(&frame), Frame::EchoReply(77, pattern(77, 1001)));
        (0..frame.len()).for_each(|len| drop(parse(&frame[..len])));
    }

    #[test]
    fn segments_have_their_lengths() {
        assert_eq!(tcp(WAY, 1000).len(), ETH + IP + 20 + 1000);
        assert_eq!(tcp6(WAY, 1000).len(), ETH + 40 + 20 + 1000);
        assert_eq!(checksum(&tcp(WAY, 9)[ETH..ETH + IP]), 0);
    }
}
