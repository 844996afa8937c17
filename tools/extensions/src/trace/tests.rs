// SPDX-License-Identifier: GPL-2.0
//! Tests of `trace`; with blkparse, where it is installed.

use crate::testing::{contents, open_over, rehearsal, Fake, Folder, Guest, Op, World};
use std::fs;
use std::io;
use std::process::Command;
use std::sync::Arc;
use tap::chain::Chain;
use tap::dev::{flag, op, status, Rehearsal};
use tap::{rt, Buf};

const SECTORS: u64 = 64;

/// The file that a few requests have left.
fn traced(folder: &Folder, file: &str, format: &str) -> Vec<u8> {
    let path = folder.path(file);
    let text = format!("trace:{path},format={format}");
    rt::run(async move {
        let fake = Fake::stamped(&World::new(1), SECTORS);
        let disk = open_over(&fake, &text).await.unwrap();
        disk.write(4096, &Buf::zeroed(1024), false).await.unwrap();
        disk.write(512, &Buf::zeroed(512), true).await.unwrap();
        disk.read(8192, &mut Buf::new(4096)).await.unwrap();
        disk.flush().await.unwrap();
        disk.discard(0, 2048).await.unwrap();
        disk.write_zeroes(1024, 512, false).await.unwrap();
        fake.hook(|op, _, _| match op {
            Op::Read => Err(io::Error::from_raw_os_error(61)),
            _ => Ok(()),
        });
        disk.read(0, &mut Buf::new(512)).await.unwrap_err();
        disk.close().await.unwrap();
        fs::read(path).unwrap()
    })
    .unwrap()
}

#[test]
fn hooks_write_the_same_lines() {
    let folder = Folder::new("trace-hook");
    let path = folder.path("t");
    rt::run(async move {
        let before = format!("trace:{path}+fault:error=EIO,op=read,nth=2");
        // What a later hook answers is seen by the ones before it.
        let hooks = Chain::parse(&Arc::new(crate::registry()), &before).unwrap();
        assert!(hooks.is_hooks());
        let hooks = hooks.open_hooks().await.unwrap();
        let guest = Rehearsal::new(hooks.clone());
        guest.ask(op::WRITE, 0, 8, 2);
        guest.ask(op::WRITE, flag::BARRIER, 1, 1);
        guest.ask(op::READ, 0, 16, 8);
        guest.reply(status::OKAY);
        let hit = guest.ask(op::READ, 0, 0, 1);
        while guest.answer(hit).is_none() {
            guest.changed().await;
        }
        guest.ask(op::FLUSH, 0, 0, 0);
        guest.ask(op::DISCARD, 0, 0, 4);
        guest.reply(status::EOPNOTSUPP);
        for hook in hooks {
            hook.close().await.unwrap();
        }
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let want = [
            ("W", "8", "2", "ok"),
            ("WF", "1", "1", "ok"),
            ("R", "16", "8", "ok"),
            ("R", "0", "1", "Input/output error (os error 5)"),
            ("F", "0", "0", "unsupported"),
            ("D", "0", "4", "unsupported"),
        ];
        assert_eq!(lines.len(), want.len(), "{text}");
        for (line, (op, sector, sectors, result)) in lines.iter().zip(want) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[1..4], [op, sector, sectors]);
            assert_eq!(words[5..].join(" "), result);
        }
        assert!(rehearsal("trace:/x,format=log-writes").await.is_err());
    })
    .unwrap();
}

#[test]
fn text_is_a_line_for_each_request() {
    let text = traced(&Folder::new("trace-text"), "t", "text");
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let wanted = [
        ["W", "8", "2"],
        ["WF", "1", "1"],
        ["R", "16", "8"],
        ["F", "0", "0"],
        ["D", "0", "4"],
        ["Z", "2", "1"],
        ["R", "0", "1"],
    ];
    assert_eq!(lines.len(), wanted.len(), "{text}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert_eq!(line[1..4], wanted);
        assert!(line[4].parse::<u64>().is_ok());
    }
    assert_eq!(lines[5][5..], ["ok"]);
    assert!(
        text.ends_with("No data available (os error 61)\n"),
        "{text}"
    );
}

#[test]
fn blkparse_reads_it() {
    let folder = Folder::new("trace-blk");
    let bytes = traced(&folder, "t.blktrace.0", "blktrace");
    assert_eq!(bytes[..4], [7, 0x74, 0x61, 0x65]);
    // Two notes with 16 and 8 bytes, and three events of each of seven requests.
    assert_eq!(bytes.len(), 48 * (2 + 21) + 16 + 8);
    let mut parse = Command::new("blkparse");
    let format = "%a %d %S %n %e\\n";
    parse
        .current_dir(&folder.0)
        .args(["-q", "-i", "t", "-f", format]);
    let Ok(output) = parse.output() else {
        return eprintln!("there is no blkparse here");
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let events = |action: char| -> Vec<&str> {
        let lines = text.lines().filter(|line| line.starts_with(action));
        lines.map(|line| line[2..].trim()).collect()
    };
    let wanted = [
        "W 8 2 0", "WF 1 1 0", "R 16 8 0", "FW 0 0 0", "D 0 4 0", "W 2 1 0", "R 0 1 61",
    ];
    assert_eq!(events('C'), wanted, "{text}");
    assert_eq!((events('Q').len(), events('D').len()), (7, 7));
}

/// What a disk holds after a replay of the first `entries` of a log; where flushes are.
fn replay(log: &[u8], data: &mut [u8], entries: usize) -> Vec<usize> {
    let number = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().unwrap()) as usize;
    assert_eq!(
        (number(0), number(8), number(24)),
        (0x006a_7366_7773_6872, 1, 512)
    );
    assert!(entries <= number(16));
    let (mut at, mut flushes) = (512, Vec::new());
    for index in 0..entries {
        let (sector, len, flags) = (number(at), number(at + 8) * 512, number(at + 16));
        at += 512;
        match flags & 0xf {
            1 => flushes.push(index),
            4 => data[sector * 512..][..len].fill(0),
            8 => (),
            _ => {
                data[sector * 512..][..len].copy_from_slice(&log[at..at + len]);
                at += len;
            }
        }
    }
    flushes
}

#[test]
fn a_log_of_writes_can_be_replayed() {
    let folder = Folder::new("trace-writes");
    let path = folder.path("log");
    rt::run(async move {
        let world = World::new(3);
        let fake = Fake::stamped(&world, SECTORS);
        let first = fake.data();
        let disk = open_over(&fake, &format!("trace:{path},format=log-writes"))
            .await
            .unwrap();
        let guest = Guest::new(&world);
        guest.busy(&disk, SECTORS, 100).await;
        disk.write_zeroes(1024, 4096, false).await.unwrap();
        disk.flush().await.unwrap();
        disk.close().await.unwrap();
        let log = fs::read(&path).unwrap();
        let entries = u64::from_le_bytes(log[16..24].try_into().unwrap()) as usize;
        let mut data = first.clone();
        let flushes = replay(&log, &mut data, entries);
        assert_eq!(flushes.len() as u64, fake.count(Op::Flush));
        assert!(data[1024..5120].iter().all(|byte| *byte == 0));
        assert!(data == contents(&disk).await.unwrap());
    })
    .unwrap();
}

#[test]
fn a_trace_that_cannot_be_written_does_not_stop_the_disk() {
    rt::run(async move {
        let fake = Fake::stamped(&World::new(3), SECTORS);
        for format in ["text", "blktrace", "log-writes"] {
            let disk = open_over(&fake, &format!("trace:/dev/full,format={format}"))
                .await
                .unwrap();
            disk.write(0, &Buf::zeroed(512), false).await.unwrap();
            disk.flush().await.unwrap();
            disk.close().await.unwrap();
            disk.read(0, &mut Buf::new(512)).await.unwrap();
        }
        let error = open_over(&fake, "trace:/nowhere/x").await.err().unwrap();
        assert!(
            error.to_string().contains("/nowhere/x: No such file"),
            "{error}"
        );
    })
    .unwrap();
}
