// SPDX-License-Identifier: GPL-2.0
//! Tests of `image`: the power cut at every point, a file that is full, a backing file that has lost
//! its end.

use super::header::Header;
use super::qcow2::Qcow2;
use crate::interop::{read, run, sh, write, Dir};
use crate::testing::{contents, Fake, Guest, Op, Random, World};
use std::{fs, io};
use tap::{rt, AnyDisk, Buf};

const SECTORS: u64 = 160;
const ENOSPC: i32 = 28;

/// What qemu-img makes, of this cluster size.
fn empty(cluster: u64) -> Vec<u8> {
    let dir = Dir::new();
    let file = dir.path("a.qcow2");
    let size = SECTORS * 512;
    sh(&format!(
        "qemu-img create -q -f qcow2 -o cluster_size={cluster} {file} {size}"
    ));
    fs::read(file).unwrap()
}

async fn open(file: &Fake, backing: Option<&Fake>) -> io::Result<AnyDisk> {
    let header = Header::read(file).await?;
    let disk = Qcow2::open(file.clone(), header, backing.map(Fake::any), false).await?;
    Ok(AnyDisk::new(disk))
}

/// Random requests to an image, on a backing file or not; then the power cut at every point.
fn is_there_after_a_power_cut(cluster: u64, seed: u64, based: bool) {
    rt::run(async move {
        let world = World::new(seed);
        let file = Fake::new(&world, empty(cluster)).growing();
        let zeroes = || Fake::new(&world, vec![0; SECTORS as usize * 512]);
        let base = match based {
            true => Fake::stamped(&world, SECTORS),
            false => zeroes(),
        };
        let disk = open(&file, based.then_some(&base)).await.unwrap();
        let (guest, start) = (Guest::new(&world), world.now());
        guest.first.set(based);
        guest.busy(&disk, SECTORS, 60).await;
        guest.check(&contents(&disk).await.unwrap(), None);
        let random = Random::new(seed);
        for cut in (start..world.now()).step_by(2) {
            let later = World::new(seed);
            let left = Fake::new(&later, file.after_cut(cut, &random)).growing();
            let base = Fake::new(&later, base.data());
            let disk = open(&left, based.then_some(&base)).await.unwrap();
            guest.check(&contents(&disk).await.unwrap(), Some(cut));
            // What is left can be used.
            if cut % 16 == 0 {
                let guest = Guest::new(&later);
                guest.write(&disk, 0, SECTORS, false).await.unwrap();
                guest.check(&contents(&disk).await.unwrap(), None);
            }
        }
    })
    .unwrap();
}

#[test]
fn what_was_flushed_is_there_after_a_power_cut() {
    for (seed, cluster) in [(1, 512), (2, 4096), (3, 65536)] {
        is_there_after_a_power_cut(cluster, seed, false);
    }
}

#[test]
fn what_was_flushed_is_there_with_a_backing_file() {
    for (seed, cluster) in [(4, 512), (5, 4096), (6, 65536)] {
        is_there_after_a_power_cut(cluster, seed, true);
    }
}

/// Writes that find no room fail; what was written before is there, and goes on when there is room again.
#[test]
fn a_full_disk_costs_the_request_only() {
    for based in [false, true] {
        rt::run(async move {
            let world = World::new(7);
            let file = Fake::new(&world, empty(4096)).growing();
            let base = Fake::stamped(&world, SECTORS);
            let disk = open(&file, based.then_some(&base)).await.unwrap();
            let guest = Guest::new(&world);
            guest.first.set(based);
            let room = file.data().len() as u64 + (16 << 10);
            let full = move |op, at, len| match op {
                Op::Write if at + len > room => Err(io::Error::from_raw_os_error(ENOSPC)),
                _ => Ok(()),
            };
            for _ in 0..3 {
                file.hook(full);
                guest.busy(&disk, SECTORS, 60).await;
                let error = guest.write(&disk, 0, SECTORS, false).await.unwrap_err();
                assert_eq!(error.raw_os_error(), Some(ENOSPC));
                guest.check(&contents(&disk).await.unwrap(), None);
                file.unhook();
                guest.busy(&disk, SECTORS, 20).await;
                guest.check(&contents(&disk).await.unwrap(), None);
            }
            disk.close().await.unwrap();
            let disk = open(&file, based.then_some(&base)).await.unwrap();
            guest.check(&contents(&disk).await.unwrap(), None);
        })
        .unwrap();
    }
}

/// A base that has lost its end while it is in use.
#[test]
fn a_base_that_is_cut_off_is_an_error_where_it_is_missing() {
    let dir = Dir::new();
    let (base, top) = (dir.file("base.raw", &[7; 1 << 20]), dir.path("top.qcow2"));
    sh(&format!(
        "qemu-img create -q -f qcow2 -b base.raw -F raw {top}"
    ));
    for chain in [
        format!("image:{top}"),
        format!("cow:base={base},delta={}", dir.path("delta")),
    ] {
        fs::write(&base, vec![7; 1 << 20]).unwrap();
        let (base, name) = (base.clone(), chain.clone());
        run(async move {
            let disk = crate::interop::open(&chain).await.unwrap();
            write(&disk, 900 << 10, &[1; 4096]).await;
            fs::File::options()
                .write(true)
                .open(&base)
                .unwrap()
                .set_len(512 << 10)
                .unwrap();
            let mut buf = Buf::zeroed(4096);
            let error = disk.read(600 << 10, &mut buf).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{name}");
            let part = Buf::zeroed(512);
            assert!(disk.write(700 << 10, &part, false).await.is_err());
            // The rest is as before, and what is written as a whole needs no base.
            let mut have = vec![0; 4096];
            read(&disk, 900 << 10, &mut have).await;
            assert!(have == [1; 4096], "{name}");
            read(&disk, 4096, &mut have).await;
            assert!(have == [7; 4096], "{name}");
            write(&disk, 640 << 10, &[2; 65536]).await;
            read(&disk, 640 << 10, &mut have).await;
            assert!(have == [2; 4096], "{name}");
            disk.flush().await.unwrap();
        });
    }
}
