// SPDX-License-Identifier: GPL-2.0
//! Images of qemu-img, and what qemu-img says of ours.

use crate::interop::{fill_at_once, open, read, run, sh, stress, try_sh, write, Dir, Random};
use std::fs;

/// What `qemu-img` makes raw of it.
fn content(dir: &Dir, file: &str) -> Vec<u8> {
    let raw = dir.path("converted");
    sh(&format!("qemu-img convert -O raw {file} {raw}"));
    fs::read(raw).unwrap()
}

/// Random writes to an image of these options; QEMU finds them, and nothing wrong.
fn works(options: &str, size: &str, count: u64) {
    let dir = Dir::new();
    let file = dir.path("a.qcow2");
    sh(&format!(
        "qemu-img create -q -f qcow2 {options} {file} {size}"
    ));
    for seed in 0..2 {
        let chain = format!("image:{file}");
        let written = run(async move {
            let disk = open(&chain).await.unwrap();
            let content = stress(&disk, seed, 8, count).await;
            disk.close().await.unwrap();
            content
        });
        sh(&format!("qemu-img check -q {file}"));
        assert!(content(&dir, &file) == written);
    }
}

#[test]
fn default_clusters() {
    works("", "9M", 80);
}

#[test]
fn small_clusters_and_an_odd_end() {
    works("-o cluster_size=4k", "3001k", 80);
}

#[test]
fn large_clusters() {
    works("-o cluster_size=2M,lazy_refcounts=on", "32M", 40);
}

#[test]
fn preallocated() {
    works("-o preallocation=metadata", "4M", 60);
}

/// A base, an image on it, and one on that; the topmost gets writes, the others stay.
#[test]
fn backing_files() {
    let dir = Dir::new();
    let mut old = vec![0; 3 << 20];
    Random::new(1).fill(&mut old);
    let base = dir.file("base.raw", &old);
    let (middle, top) = (dir.path("middle.qcow2"), dir.path("top.qcow2"));
    sh(&format!(
        "qemu-img create -q -f qcow2 -b base.raw -F raw {middle} 5M"
    ));
    let before = run(async move {
        let disk = open(&format!("image:{middle}")).await.unwrap();
        let content = stress(&disk, 2, 4, 60).await;
        disk.close().await.unwrap();
        content
    });
    let (middle, chain) = (dir.path("middle.qcow2"), format!("image:{top}"));
    sh(&format!(
        "qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 {top} 6M"
    ));
    let after = run(async move {
        let disk = open(&chain).await.unwrap();
        let mut start = vec![0; 5 << 20];
        read(&disk, 0, &mut start).await;
        assert!(start == before);
        let content = stress(&disk, 3, 4, 60).await;
        disk.close().await.unwrap();
        assert!(start == before);
        content
    });
    sh(&format!("qemu-img check -q {top}"));
    sh(&format!("qemu-img check -q {middle}"));
    assert!(content(&dir, &top) == after);
    assert!(fs::read(&base).unwrap() == old);
    let (top, base) = (dir.path("top.qcow2"), dir.path("base.raw"));
    sh(&format!("qemu-img rebase -u -b base.raw {top} -F raw"));
    run(async move {
        let chain = format!("qcow2:{top},backing=raw:{base}");
        open(&chain).await.unwrap();
        fs::remove_file(&base).unwrap();
        let error = open(&format!("image:{top}"))
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("base.raw"), "{error}");
    });
}

#[test]
fn compressed_clusters() {
    for kind in ["zlib", "zstd"] {
        let dir = Dir::new();
        let mut old = vec![0; 4 << 20];
        let random = Random::new(4);
        for piece in old.chunks_mut(10_000) {
            match random.below(3) {
                0 => random.fill(piece),
                1 => piece.fill(random.below(256) as u8),
                _ => (),
            }
        }
        let raw = dir.file("a.raw", &old);
        let file = dir.path("a.qcow2");
        sh(&format!(
            "qemu-img convert -c -O qcow2 -o compression_type={kind} {raw} {file}"
        ));
        let chain = format!("image:{file}");
        let written = run(async move {
            let disk = open(&chain).await.unwrap();
            let mut have = vec![0; old.len()];
            read(&disk, 0, &mut have).await;
            assert!(have == old);
            let content = stress(&disk, 5, 4, 60).await;
            disk.close().await.unwrap();
            content
        });
        sh(&format!("qemu-img check -q {file}"));
        assert!(content(&dir, &file) == written, "{kind}");
    }
}

/// The program is killed: all that has returned is there, and the image can be opened again.
#[test]
fn without_the_end() {
    let dir = Dir::new();
    let file = dir.path("a.qcow2");
    sh(&format!("qemu-img create -q -f qcow2 {file} 8M"));
    let (chain, mut last) = (format!("image:{file}"), Vec::new());
    for seed in 0..3 {
        let chain = chain.clone();
        let before = std::mem::take(&mut last);
        last = run(async move {
            let disk = open(&chain).await.unwrap();
            let mut now = vec![0; before.len()];
            read(&disk, 0, &mut now).await;
            assert!(now == before, "run {seed}");
            stress(&disk, seed, 4, 60).await
        });
    }
    // QEMU, too, opens it, after a repair.
    assert!(
        !try_sh(&format!("qemu-img check -q {file}")).0,
        "it should be dirty"
    );
    let (_, said) = try_sh(&format!("qemu-img check -r all {file}"));
    assert!(said.contains("No errors were found"), "{said}");
    assert!(content(&dir, &file) == last);
}

#[test]
fn discards_give_space_back() {
    let dir = Dir::new();
    let file = dir.path("a.qcow2");
    sh(&format!("qemu-img create -q -f qcow2 {file} 64M"));
    let chain = format!("image:{file}");
    run(async move {
        let disk = open(&chain).await.unwrap();
        for _ in 0..8 {
            write(&disk, 0, &vec![5; 4 << 20]).await;
            disk.discard(0, 4 << 20).await.unwrap();
            disk.flush().await.unwrap();
        }
        write(&disk, 1 << 20, &[6; 65536]).await;
        disk.close().await.unwrap();
    });
    sh(&format!("qemu-img check -q {file}"));
    let meta = fs::metadata(&file).unwrap();
    let used = std::os::unix::fs::MetadataExt::blocks(&meta) * 512;
    assert!(used < 1 << 20, "{used} bytes are used");
}

#[test]
fn many_to_one_new_cluster() {
    let dir = Dir::new();
    let file = dir.path("a.qcow2");
    sh(&format!("qemu-img create -q -f qcow2 {file} 8M"));
    let chain = format!("image:{file}");
    run(async move {
        let disk = open(&chain).await.unwrap();
        fill_at_once(&disk).await;
        disk.close().await.unwrap();
    });
    sh(&format!("qemu-img check -q {file}"));
}

#[test]
fn what_cannot_be_is_said() {
    let dir = Dir::new();
    let (file, odd) = (dir.path("a.qcow2"), dir.sparse("odd", 1 << 20));
    sh(&format!("qemu-img create -q -f qcow2 {file} 8M"));
    sh(&format!("qemu-img snapshot -c one {file}"));
    let old = dir.path("old.qcow2");
    sh(&format!(
        "qemu-img create -q -f qcow2 -o compat=0.10 {old} 8M"
    ));
    let sub = dir.path("sub.qcow2");
    sh(&format!(
        "qemu-img create -q -f qcow2 -o extended_l2=on {sub} 8M"
    ));
    run(async move {
        for (chain, why) in [
            (format!("image:{file}"), "snapshots"),
            (format!("image:{old}"), "version 2"),
            (format!("image:{sub}"), "subclusters"),
            (format!("image:{odd}"), "format=qcow2 or format=raw"),
            (format!("image:{odd},format=qcow2"), "no qcow2 image"),
        ] {
            let error = open(&chain).await.err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
        open(&format!("image:{file},readonly=yes")).await.unwrap();
        open(&format!("image:{odd},format=raw")).await.unwrap();
    });
}

/// Damage anywhere in the metadata must not do more than an error, or wrong data.
#[test]
fn random_damage_is_an_error() {
    let dir = Dir::new();
    let file = dir.path("a.qcow2");
    sh(&format!(
        "qemu-img create -q -f qcow2 -o cluster_size=512 {file} 64k"
    ));
    let chain = format!("image:{file}");
    run(async move {
        let disk = open(&chain).await.unwrap();
        write(&disk, 0, &[1; 30000]).await;
        disk.close().await.unwrap();
        let whole = fs::read(&file).unwrap();
        let random = Random::new(9);
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random.below(4) {
                let most = [120, bytes.len() as u64][random.below(2) as usize];
                bytes[random.below(most) as usize] = random.below(256) as u8;
            }
            fs::write(&file, &bytes).unwrap();
            let Ok(disk) = open(&chain).await else {
                continue;
            };
            if disk.info().size < 65536 {
                continue;
            }
            let _ = disk.read(0, &mut tap::Buf::new(65536)).await;
            let _ = disk.write(512, &tap::Buf::zeroed(8192), true).await;
            let _ = disk.discard(0, 4096).await;
            let _ = disk.close().await;
        }
    });
}
