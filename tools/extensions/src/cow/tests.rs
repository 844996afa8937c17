// SPDX-License-Identifier: GPL-2.0
//! Tests of `cow`, with disks that fail, and with the power cut at every point.

use super::commit::commit_delta;
use super::*;
use crate::testing::{contents, Fake, Guest, Op, Random, World, SECTOR};
use std::rc::Rc;

const SECTORS: u64 = 120;

/// A base, an empty delta, in a world.
async fn fresh(world: &Rc<World>, cluster: u64) -> (Fake, Fake) {
    let base = Fake::stamped(world, SECTORS);
    let header = Header::new(SECTORS * 512, 512, Some(cluster)).unwrap();
    let delta = Fake::new(world, vec![0; header.file_len() as usize]);
    Delta::create(&delta.any(), &header).await.unwrap();
    (base, delta)
}

async fn open(base: &Fake, delta: &Fake) -> io::Result<AnyDisk> {
    let delta = Delta::open(delta.any(), "delta").await?;
    Ok(AnyDisk::new(Cow::new(base.any(), delta)?))
}

#[test]
fn it_reads_as_written_and_leaves_the_base_alone() {
    for (seed, cluster) in [(1, 512), (2, 4096), (3, 16384), (4, 65536)] {
        rt::run(async move {
            let world = World::new(seed);
            let (base, delta) = fresh(&world, cluster).await;
            let before = base.data();
            let disk = open(&base, &delta).await.unwrap();
            assert_eq!(contents(&disk).await.unwrap(), before);
            let guest = Guest::new(&world);
            guest.busy(&disk, SECTORS, 300).await;
            let now = contents(&disk).await.unwrap();
            guest.check(&now, None);
            assert!(base.data() == before);
            disk.write_zeroes(512, 20 * 512, true).await.unwrap();
            let mut expected = now.clone();
            expected[512..21 * 512].fill(0);
            assert!(contents(&disk).await.unwrap() == expected);
            disk.close().await.unwrap();
            let disk = open(&base, &delta).await.unwrap();
            assert!(contents(&disk).await.unwrap() == expected);
        })
        .unwrap();
    }
}

#[test]
fn what_was_flushed_is_there_after_a_power_cut() {
    for (seed, cluster) in [(1, 4096), (2, 1024), (3, 16384)] {
        rt::run(async move {
            let world = World::new(seed);
            let (base, delta) = fresh(&world, cluster).await;
            let disk = open(&base, &delta).await.unwrap();
            let (guest, start) = (Guest::new(&world), world.now());
            guest.busy(&disk, SECTORS, 60).await;
            let random = Random::new(seed);
            for cut in start..world.now() {
                let later = World::new(seed);
                let base = Fake::new(&later, base.data());
                let left = Fake::new(&later, delta.after_cut(cut, &random));
                let disk = open(&base, &left).await.unwrap();
                guest.check(&contents(&disk).await.unwrap(), Some(cut));
            }
        })
        .unwrap();
    }
}

#[test]
fn a_full_disk_costs_the_request_only() {
    rt::run(async {
        let world = World::new(7);
        let (base, delta) = fresh(&world, 4096).await;
        let disk = open(&base, &delta).await.unwrap();
        let guest = Guest::new(&world);
        let data = Header::new(SECTORS * 512, 512, Some(4096)).unwrap().data;
        let mut room = 20;
        delta.hook(move |op, at, _| {
            // As a file system: what is there already can be written again.
            if op == Op::Write && at >= data {
                if room == 0 {
                    return Err(io::Error::from_raw_os_error(28));
                }
                room -= 1;
            }
            Ok(())
        });
        guest.busy(&disk, SECTORS, 200).await;
        let error = guest.write(&disk, 3, 4, false).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        guest.flush(&disk).await.unwrap();
        guest.check(&contents(&disk).await.unwrap(), None);
        delta.unhook();
        guest.busy(&disk, SECTORS, 100).await;
        disk.close().await.unwrap();
        let disk = open(&base, &delta).await.unwrap();
        guest.check(&contents(&disk).await.unwrap(), None);
    })
    .unwrap();
}

#[test]
fn a_failed_flush_is_never_believed() {
    rt::run(async {
        let world = World::new(8);
        let (base, delta) = fresh(&world, 4096).await;
        let disk = open(&base, &delta).await.unwrap();
        let guest = Guest::new(&world);
        guest.write(&disk, 0, 4, false).await.unwrap();
        delta.hook(|op, _, _| match op {
            Op::Flush => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        });
        guest.flush(&disk).await.unwrap_err();
        delta.unhook();
        let error = guest.flush(&disk).await.unwrap_err();
        assert!(error.to_string().contains("a flush has failed"), "{error}");
        guest.write(&disk, 0, 4, false).await.unwrap_err();
        guest.check(&contents(&disk).await.unwrap(), None);
    })
    .unwrap();
}

#[test]
fn flushes_share_their_work() {
    rt::run(async {
        let world = World::new(9);
        let (base, delta) = fresh(&world, 4096).await;
        let disk = open(&base, &delta).await.unwrap();
        Guest::new(&world).write(&disk, 0, 8, false).await.unwrap();
        let before = delta.count(Op::Flush);
        for result in rt::join_all((0..10).map(|_| disk.flush())).await {
            result.unwrap();
        }
        // The first for data and map, and one for the nine who came meanwhile.
        assert_eq!(delta.count(Op::Flush) - before, 3);
    })
    .unwrap();
}

#[test]
fn commit_makes_the_base_the_disk_even_if_cut_off() {
    rt::run(async {
        let world = World::new(10);
        let (base, delta) = fresh(&world, 4096).await;
        let disk = open(&base, &delta).await.unwrap();
        let guest = Guest::new(&world);
        guest.busy(&disk, SECTORS, 40).await;
        disk.close().await.unwrap();
        let (before, start) = (contents(&disk).await.unwrap(), world.now());
        let opened = Delta::open(delta.any(), "delta").await.unwrap();
        let mut told = (0, 0);
        let target = base.any();
        let changes = commit_delta(&target, &opened, |done, all| told = (done, all)).await;
        let changes = changes.unwrap();
        assert!(changes.changed() > 0 && told == (changes.changed(), changes.changed()));
        assert!(base.data() == before);
        let random = Random::new(10);
        for cut in start..world.now() {
            let later = World::new(1);
            let base = Fake::new(&later, base.after_cut(cut, &random));
            let delta = Fake::new(&later, delta.after_cut(cut, &random));
            let disk = open(&base, &delta).await.unwrap();
            assert!(contents(&disk).await.unwrap() == before, "cut at {cut}");
            let delta = Delta::open(delta.any(), "delta").await.unwrap();
            commit_delta(&base.any(), &delta, |_, _| ()).await.unwrap();
            assert!(base.data() == before);
        }
        let disk = open(&base, &delta).await.unwrap();
        assert!(contents(&disk).await.unwrap() == before);
        guest.write(&disk, 9, 1, false).await.unwrap();
        assert!(base.data() == before);
    })
    .unwrap();
}

#[test]
fn the_map_tells_what_has_changed() {
    rt::run(async {
        let world = World::new(11);
        let (base, delta) = fresh(&world, 4096).await;
        let disk = open(&base, &delta).await.unwrap();
        let guest = Guest::new(&world);
        guest.write(&disk, 9, 1, false).await.unwrap();
        guest.write(&disk, 16, 8, false).await.unwrap();
        guest.flush(&disk).await.unwrap();
        let delta = Delta::open(delta.any(), "delta").await.unwrap();
        let changes = Changes::of(&delta);
        assert_eq!(
            changes.to_text(),
            "            4096             8192\n8192 of 61440 bytes changed\n"
        );
        let json = changes.to_json();
        assert!(
            json.starts_with("[{ \"start\": 0, \"length\": 4096, \"depth\": 1,"),
            "{json}"
        );
        assert!(
            json.contains("\"start\": 4096, \"length\": 8192, \"depth\": 0,"),
            "{json}"
        );
        assert!(json.contains("\"offset\": 1052672 }"), "{json}");
    })
    .unwrap();
}

#[test]
fn a_base_of_another_size_is_refused() {
    rt::run(async {
        let world = World::new(12);
        let (base, delta) = fresh(&world, 4096).await;
        base.set_info(|info| info.size -= 512);
        let error = open(&base, &delta).await.err().unwrap().to_string();
        assert!(error.contains("the base has lost its end"), "{error}");
        base.set_info(|info| info.size += 1024);
        let error = open(&base, &delta).await.err().unwrap().to_string();
        assert!(error.contains("commit the delta first"), "{error}");
        let short = Fake::new(&world, delta.data()[..1 << 20].to_vec());
        let error = open(&base, &short).await.err().unwrap().to_string();
        assert!(error.contains("delta: it has lost its end"), "{error}");
        let other = Fake::new(&world, vec![7; 1 << 20]);
        let error = open(&base, &other).await.err().unwrap().to_string();
        assert!(error.contains("delta: it is no delta"), "{error}");
        assert_eq!(base.data().len() % SECTOR, 0);
    })
    .unwrap();
}
