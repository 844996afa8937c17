// SPDX-License-Identifier: GPL-2.0
//! Tests of chains with files.

use crate::testing::{contents, Folder};
use crate::{cow, registry};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tap::chain::Chain;
use tap::{rt, AnyDisk, Buf, Raw};

async fn open(text: &str) -> io::Result<AnyDisk> {
    Chain::parse(&Arc::new(registry()), text)?.open(None).await
}

async fn refused(text: &str) -> String {
    match open(text).await {
        Ok(_) => panic!("{text} was opened"),
        Err(error) => error.to_string(),
    }
}

/// A file of numbered sectors.
fn image(folder: &Folder, name: &str, sectors: u64) -> String {
    let path = folder.path(name);
    let data = (0..sectors).flat_map(|n| (n + 1).to_le_bytes().repeat(64));
    fs::write(&path, data.collect::<Vec<u8>>()).unwrap();
    path
}

#[test]
fn cow_over_files() {
    let folder = Folder::new("cow-files");
    rt::run(async move {
        let base = image(&folder, "base", 2048);
        let delta = folder.path("delta");
        let before = fs::read(&base).unwrap();
        let by_option = format!("cow:base={base},delta={delta}");
        let disk = open(&by_option).await.unwrap();
        assert!(contents(&disk).await.unwrap() == before);
        disk.write(512 * 100, &Buf::copy_of(&[9; 5120]), true)
            .await
            .unwrap();
        disk.write_zeroes(1 << 19, 1 << 18, false).await.unwrap();
        disk.discard(1 << 19, 1 << 17).await.unwrap();
        disk.close().await.unwrap();
        drop(disk);
        let mut after = before.clone();
        after[512 * 100..][..5120].fill(9);
        after[1 << 19..][..1 << 18].fill(0);
        // As a filter, with the same delta.
        let disk = open(&format!("cow:delta={delta},new=no+raw:{base}"))
            .await
            .unwrap();
        assert!(contents(&disk).await.unwrap() == after);
        drop(disk);
        assert!(fs::read(&base).unwrap() == before);
        let meta = fs::metadata(&delta).unwrap();
        assert_eq!(meta.len(), 2 << 20);
        assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
        let changes = cow::changes(Path::new(&delta)).await.unwrap();
        assert_eq!(changes.changed(), 2 * 4096 + (1 << 18));
        let target = AnyDisk::new(Raw::open(Path::new(&base), false, true).unwrap());
        cow::commit(&target, Path::new(&delta), |_, _| ())
            .await
            .unwrap();
        assert!(fs::read(&base).unwrap() == after);
        let changes = cow::changes(Path::new(&delta)).await.unwrap();
        assert_eq!(changes.to_text(), "0 of 1048576 bytes changed\n");
        let disk = open(&by_option).await.unwrap();
        assert!(contents(&disk).await.unwrap() == after);
    })
    .unwrap();
}

/// The program is killed, with writes that were answered and never flushed, again and again.
#[test]
fn cow_without_the_end() {
    let folder = Folder::new("cow-killed");
    rt::run(async move {
        let base = image(&folder, "base", 2048);
        let delta = folder.path("delta");
        let chain = format!("cow:base={base},delta={delta}");
        let mut expected = fs::read(&base).unwrap();
        for n in 1..20u64 {
            let disk = open(&chain).await.unwrap();
            assert!(contents(&disk).await.unwrap() == expected, "{n}");
            let at = n as usize * 31 * 512;
            disk.write(at as u64, &Buf::copy_of(&[n as u8; 1024]), false)
                .await
                .unwrap();
            expected[at..at + 1024].fill(n as u8);
            if n % 5 == 0 {
                disk.close().await.unwrap();
            }
        }
        // Another one in its place has nothing of it.
        fs::remove_file(&delta).unwrap();
        let disk = open(&chain).await.unwrap();
        assert!(contents(&disk).await.unwrap() == fs::read(&base).unwrap());
        disk.write(0, &Buf::zeroed(4096), false).await.unwrap();
        drop(disk);
        let disk = open(&chain.replace("delta=", "new=yes,delta="))
            .await
            .unwrap();
        assert!(contents(&disk).await.unwrap() == fs::read(&base).unwrap());
        disk.write(0, &Buf::zeroed(4096), false).await.unwrap();
        drop(disk);
        // What was not flushed is committed, too.
        let target = AnyDisk::new(Raw::open(Path::new(&base), false, true).unwrap());
        cow::commit(&target, Path::new(&delta), |_, _| ())
            .await
            .unwrap();
        assert!(fs::read(&base).unwrap()[..4096] == [0; 4096]);
    })
    .unwrap();
}

#[test]
fn cow_says_what_is_wrong() {
    let folder = Folder::new("cow-wrong");
    rt::run(async move {
        let base = image(&folder, "base", 2048);
        let delta = folder.path("delta");
        let cow = |options: &str| format!("cow:base={base},delta={delta}{options}");
        for (text, what) in [
            (cow(",new=no"), "delta: No such file"),
            (cow(",new=maybe"), "new is auto, yes or no"),
            (cow(",cluster=5000"), "a power of two from 512 to 2M"),
            (format!("cow:base={base}"), "cow needs delta="),
            (format!("cow:delta={delta}"), "no disk below"),
            (
                format!("cow:base={base},delta=/nowhere/d"),
                "/nowhere/d.new: No such file",
            ),
            (
                format!("cow:base=/nowhere/b,delta={delta}"),
                "/nowhere/b: No such file",
            ),
            (
                format!("cow:base={base},delta={base}"),
                "base: it is no delta",
            ),
        ] {
            let error = refused(&text).await;
            assert!(error.contains(what), "{text}: {error}");
        }
        assert!(!Path::new(&delta).exists());
        let disk = open(&cow("")).await.unwrap();
        disk.write(0, &Buf::zeroed(4096), false).await.unwrap();
        // While it is open a second one would make a mess of it.
        let error = refused(&cow("")).await;
        assert!(error.contains("in use"), "{error}");
        disk.close().await.unwrap();
        drop(disk);
        fs::OpenOptions::new()
            .write(true)
            .open(&base)
            .unwrap()
            .set_len(1 << 19)
            .unwrap();
        assert!(refused(&cow(""))
            .await
            .contains("the base has lost its end"));
        let disk = open(&cow(",new=yes")).await.unwrap();
        assert_eq!(disk.info().size, 1 << 19);
        assert!(contents(&disk).await.unwrap() == fs::read(&base).unwrap());
        // The base gets shorter meanwhile.
        fs::OpenOptions::new()
            .write(true)
            .open(&base)
            .unwrap()
            .set_len(4096)
            .unwrap();
        disk.read(8192, &mut Buf::new(4096)).await.unwrap_err();
        disk.read(0, &mut Buf::new(4096)).await.unwrap();
    })
    .unwrap();
}

#[test]
fn mirror_over_files() {
    let folder = Folder::new("mirror-files");
    rt::run(async move {
        let first = image(&folder, "first", 8192);
        let second = folder.path("second");
        let map = folder.path("map");
        fs::File::create(&second).unwrap().set_len(4 << 20).unwrap();
        let text = format!("mirror:to={second},map={map},rate=100M+raw:{first}");
        let disk = open(&text).await.unwrap();
        disk.write(1 << 20, &Buf::copy_of(&[7; 8192]), true)
            .await
            .unwrap();
        let same = async {
            while fs::read(&first).unwrap() != fs::read(&second).unwrap() {
                rt::sleep(Duration::from_millis(10)).await;
            }
        };
        rt::timeout(Duration::from_secs(20), same).await.unwrap();
        let error = refused(&text).await;
        assert!(error.contains("in use"), "{error}");
        disk.close().await.unwrap();
        drop(disk);
        let states = fs::read(&map).unwrap();
        assert!(states.len() == 8192 && states[4096..].iter().all(|state| *state == 0));
        let error = refused(&format!(
            "mirror:to={first},map={map}+raw:{second},readonly=yes"
        ))
        .await;
        assert!(error.contains("one is read-only"), "{error}");
        fs::File::create(&second).unwrap().set_len(1 << 20).unwrap();
        assert!(refused(&text).await.contains("it has 1048576 bytes"));
    })
    .unwrap();
}
