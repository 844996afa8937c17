// SPDX-License-Identifier: GPL-2.0
//! `blktap serve --nbd` against other people's clients, and against a hostile one.

use crate::server::{run, Server, MIB};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Bytes that differ from sector to sector.
fn pattern(len: usize) -> Vec<u8> {
    let byte = |i: usize| ((i / 512) as u32).wrapping_mul(0x9e37_79b9).to_le_bytes()[i % 4];
    (0..len).map(byte).collect()
}

#[test]
fn nbdinfo_says_what_there_is() {
    let server = Server::start("@", 64 * MIB as u64);
    let info = run(&["nbdinfo", &server.uri()]);
    for line in [
        "export-size: 67108864",
        "can_flush: true",
        "can_fua: true",
        "can_multi_conn: true",
        "can_trim: true",
        "can_zero: true",
        "is_read_only: false",
        "block_size_minimum: 512",
    ] {
        assert!(info.contains(line), "{line}: {info}");
    }
    let list = run(&["nbdinfo", "--list", &server.uri()]);
    assert!(list.contains("export=\"\""), "{list}");
    server.stop();
    let read_only = Server::start("raw:@,readonly=yes", 1 << 20);
    assert!(run(&["nbdinfo", &read_only.uri()]).contains("is_read_only: true"));
    read_only.stop();
}

#[test]
fn nbdcopy_there_and_back() {
    let server = Server::start("noop+raw:@", 32 * MIB as u64);
    let (from, back) = (server.path("from"), server.path("back"));
    let content = pattern(32 * MIB);
    fs::write(&from, &content).unwrap();
    // Four connections, many requests in each.
    let flags = ["--connections=4", "--requests=64", "--flush"];
    run(&[
        "nbdcopy",
        flags[0],
        flags[1],
        flags[2],
        &from,
        &server.uri(),
    ]);
    run(&["nbdcopy", flags[0], flags[1], &server.uri(), &back]);
    assert!(fs::read(&back).unwrap() == content);
    assert!(fs::read(server.path("disk")).unwrap() == content);
    server.stop();
}

#[test]
fn qemu_io_with_all_operations() {
    let server = Server::start("raw:@,cache=yes", 8 * MIB as u64);
    let mut words = vec!["qemu-io", "-f", "raw"];
    for command in [
        "write -P 5 0 4M",
        "read -P 5 0 4M",
        // as zeroes, and so that they may be a hole
        "write -z 1M 64k",
        "write -z -u 2M 64k",
        "read -P 0 1M 64k",
        "read -P 0 2M 64k",
        "read -P 5 1088k 512k",
        // neither aligned to a page nor a multiple of one, with FUA
        "write -f -P 6 512 1536",
        "read -P 6 512 1536",
        "read -P 5 0 512",
        "discard 3M 1M",
        "flush",
    ] {
        words.extend(["-c", command]);
    }
    let uri = server.uri();
    words.push(&uri);
    let output = run(&words);
    assert!(!output.contains("failed"), "{output}");
    server.stop();
}

/// The handshake, by hand; gives the size.
fn handshake(stream: &mut UnixStream) -> u64 {
    let mut hello = [0; 18];
    stream.read_exact(&mut hello).unwrap();
    assert_eq!(&hello[..16], b"NBDMAGICIHAVEOPT");
    stream.write_all(&3u32.to_be_bytes()).unwrap();
    // NBD_OPT_EXPORT_NAME, with no name
    stream.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0").unwrap();
    let mut export = [0; 10];
    stream.read_exact(&mut export).unwrap();
    u64::from_be_bytes(export[..8].try_into().unwrap())
}

fn request(command: u16, at: u64, len: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513u32.to_be_bytes().to_vec();
    bytes.extend(0u16.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(7u64.to_be_bytes());
    bytes.extend(at.to_be_bytes());
    bytes.extend(len.to_be_bytes());
    bytes
}

#[test]
fn a_hostile_client_harms_itself_only() {
    let server = Server::start("@", 1 << 20);
    let is_closed = |mut stream: UnixStream| {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = stream.read_to_end(&mut rest);
        rest.is_empty()
    };
    // Neither client flags nor options.
    let mut stream = server.connect();
    stream.read_exact(&mut [0; 18]).unwrap();
    stream.write_all(&[0xff; 64]).unwrap();
    assert!(is_closed(stream));
    // An option of 4 GiB.
    let mut stream = server.connect();
    stream.read_exact(&mut [0; 18]).unwrap();
    stream.write_all(&3u32.to_be_bytes()).unwrap();
    stream
        .write_all(b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff")
        .unwrap();
    assert!(is_closed(stream));
    // No request; a write of 4 GiB.
    for bytes in [vec![0x55; 28], request(1, 0, u32::MAX)] {
        let mut stream = server.connect();
        assert_eq!(handshake(&mut stream), 1 << 20);
        stream.write_all(&bytes).unwrap();
        assert!(is_closed(stream));
    }
    // Beyond the end, not aligned, unknown: an error each, and the connection lives.
    let mut stream = server.connect();
    handshake(&mut stream);
    for (command, at, len) in [
        (0, 1 << 20, 512),
        (0, u64::MAX, 512),
        (0, 3, 512),
        (0, 0, 5),
        (99, 0, 512),
    ] {
        stream.write_all(&request(command, at, len)).unwrap();
        let mut reply = [0; 16];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..4], 0x6744_6698u32.to_be_bytes());
        assert_ne!(reply[4..8], [0; 4], "{command} {at} {len}");
        assert_eq!(reply[8..], 7u64.to_be_bytes());
    }
    // Half a request, and gone.
    stream.write_all(&request(1, 0, 4096)).unwrap();
    stream.write_all(&[1; 100]).unwrap();
    drop(stream);
    // A reader that does not read.
    let mut stuck = server.connect();
    handshake(&mut stuck);
    for _ in 0..64 {
        stuck.write_all(&request(0, 0, 1 << 20)).unwrap();
    }
    assert!(run(&["nbdinfo", "--size", &server.uri()]).starts_with("1048576"));
    drop(stuck);
    server.stop();
}
