// SPDX-License-Identifier: GPL-2.0
use crate::interop::{fill_at_once, open, read, run, stress, write, Dir, Random};
use crate::testing::{contents, open_over, Fake, Guest, Random as Chance, World};
use std::fs;
use std::io;
use tap::{rt, Buf};

fn works(options: &str, size: &str) {
    let dir = Dir::new();
    let file = dir.sparse("file", 24 << 20);
    let chain = format!("compress:create={size},{options}+{file}");
    let mut last: Option<Vec<u8>> = None;
    // Never closed: each time it is as after a kill.
    for seed in 0..3 {
        let (chain, before) = (chain.clone(), last.take());
        last = Some(run(async move {
            let disk = open(&chain).await.unwrap();
            if let Some(before) = before {
                let mut now = vec![0; before.len()];
                read(&disk, 0, &mut now).await;
                assert!(now == before, "run {seed}");
            }
            stress(&disk, seed, 4, 60).await
        }));
    }
}

#[test]
fn what_was_flushed_is_there_after_a_power_cut() {
    const SECTORS: u64 = 64;
    for seed in 1..3 {
        rt::run(async move {
            let world = World::new(seed);
            let below = Fake::new(&world, vec![0; 96 << 10]);
            let disk = open_over(&below, "compress:create=32k,cluster=4k").await;
            let disk = disk.unwrap();
            let (guest, start) = (Guest::new(&world), world.now());
            guest.first.set(false);
            guest.busy(&disk, SECTORS, 60).await;
            guest.check(&contents(&disk).await.unwrap(), None);
            let random = Chance::new(seed);
            for cut in (start..world.now()).step_by(2) {
                let left = Fake::new(&World::new(seed), below.after_cut(cut, &random));
                let disk = open_over(&left, "compress:level=1").await.unwrap();
                guest.check(&contents(&disk).await.unwrap(), Some(cut));
            }
        })
        .unwrap();
    }
}

#[test]
fn default_clusters() {
    works("level=1", "6M");
}

#[test]
fn small_clusters_and_an_odd_end() {
    works("cluster=4k,level=3", "3036k");
}

#[test]
fn large_clusters() {
    works("cluster=1M", "5M");
}

#[test]
fn it_saves_space_and_gives_it_back() {
    let dir = Dir::new();
    let file = dir.sparse("file", 64 << 20);
    let chain = format!("compress:create=32M+{file}");
    let path = file.clone();
    run(async move {
        let used = || {
            let meta = fs::metadata(&path).unwrap();
            std::os::unix::fs::MetadataExt::blocks(&meta) * 512
        };
        let disk = open(&chain).await.unwrap();
        let text: Vec<u8> = (0u32..2 << 20)
            .flat_map(|it| (it / 7).to_le_bytes())
            .collect();
        write(&disk, 0, &text).await;
        disk.flush().await.unwrap();
        let full = used();
        assert!(full < 4 << 20, "{full} bytes for 8 MiB");
        disk.discard(0, 8 << 20).await.unwrap();
        disk.flush().await.unwrap();
        let empty = used();
        assert!(empty < 1 << 20, "{empty} of {full} bytes are left");
        let mut have = vec![1; 8 << 20];
        read(&disk, 0, &mut have).await;
        assert!(have.iter().all(|byte| *byte == 0));
    });
}

#[test]
fn a_full_disk_is_an_error_and_no_more() {
    let dir = Dir::new();
    let file = dir.sparse("file", 4 << 20);
    run(async move {
        let disk = open(&format!("compress:create=16M+{file}")).await.unwrap();
        let mut data = Buf::new(65536);
        Random::new(1).fill(&mut data);
        let mut done = 0;
        let error = loop {
            match disk.write(done, &data, false).await {
                Ok(()) => done += 65536,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(done >= 3 << 20, "{done}");
        let mut have = vec![0; done as usize];
        read(&disk, 0, &mut have).await;
        assert!(have.chunks(65536).all(|chunk| *chunk == data[..]));
        // Zeroes need no space, and make some.
        disk.write_zeroes(0, 1 << 20, true).await.unwrap();
        disk.write(done, &data, false).await.unwrap();
    });
}

#[test]
fn what_is_written_over_makes_space() {
    let dir = Dir::new();
    let file = dir.sparse("file", 4 << 20);
    run(async move {
        let disk = open(&format!("compress:create=2M+{file}")).await.unwrap();
        // Four times as much as there is room for, half of it at once, and no flush.
        for round in 0..8 {
            let mut data = Buf::new(65536);
            Random::new(round).fill(&mut data);
            for half in [0..16, 16..32] {
                let writes = half.map(|at| disk.write(at << 16, &data, false));
                for done in tap::rt::join_all(writes).await {
                    done.unwrap();
                }
            }
            let mut have = vec![0; 2 << 20];
            read(&disk, 0, &mut have).await;
            assert!(have.chunks(65536).all(|chunk| *chunk == data[..]));
        }
    });
}

#[test]
fn writes_to_one_cluster_at_once() {
    let dir = Dir::new();
    let file = dir.sparse("file", 4 << 20);
    run(async move {
        let disk = open(&format!("compress:create=2M+{file}")).await.unwrap();
        fill_at_once(&disk).await;
    });
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let dir = Dir::new();
    let file = dir.file("file", &[7; 1 << 20]);
    run(async move {
        let error = open(&format!("compress:create=16M+{file}")).await;
        let error = error.err().unwrap().to_string();
        assert!(error.contains("not empty"), "{error}");
        let error = open(&format!("compress+{file}"))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("create=SIZE"), "{error}");
        assert!(fs::read(&file).unwrap() == [7; 1 << 20]);
    });
}

#[test]
fn random_damage_is_an_error() {
    let dir = Dir::new();
    let file = dir.sparse("file", 1 << 20);
    run(async move {
        let chain = format!("compress:create=1M,cluster=4k+{file}");
        let disk = open(&chain).await.unwrap();
        let text: Vec<u8> = (0u32..1 << 16)
            .flat_map(|it| (it / 7).to_le_bytes())
            .collect();
        write(&disk, 0, &text).await;
        drop(disk);
        let whole = fs::read(&file).unwrap();
        let random = Random::new(9);
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random.below(4) {
                let most = [24, 4096 + 600, 40000][random.below(3) as usize];
                bytes[random.below(most) as usize] = random.below(256) as u8;
            }
            fs::write(&file, &bytes).unwrap();
            let Ok(disk) = open(&chain).await else {
                continue;
            };
            for at in (0..disk.info().size.min(1 << 18)).step_by(4096) {
                let _ = disk.read(at, &mut Buf::new(512)).await;
                let _ = disk.write(at, &Buf::zeroed(512), false).await;
            }
        }
    });
}
