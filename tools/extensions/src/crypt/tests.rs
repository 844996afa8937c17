// SPDX-License-Identifier: GPL-2.0
//! Volumes that cryptsetup and qemu-img have made.

use crate::interop::{open, read, run, sh, stress, write, Dir, Random};
use std::fs;

const SIZE: u64 = 24 << 20;

/// A volume of cryptsetup, and the chain that opens it.
fn format(dir: &Dir, options: &str) -> String {
    let (file, key) = (
        dir.sparse("volume", SIZE),
        dir.file("key", b"a pass\nphrase"),
    );
    let pbkdf = match options.contains("--type luks1") || options.contains("--pbkdf ") {
        true => "--pbkdf-force-iterations 1000",
        false => "--pbkdf argon2id --pbkdf-force-iterations 4 --pbkdf-memory 1024",
    };
    let pbkdf = if options.contains("argon2") {
        ""
    } else {
        pbkdf
    };
    sh(&format!(
        "cryptsetup -q luksFormat {pbkdf} {options} --key-file {key} {file}"
    ));
    format!("crypt:key-file={key}+{file}")
}

/// QEMU reads what we have written, where it can: LUKS1.
#[test]
fn luks1_and_qemu() {
    let dir = Dir::new();
    let chain = format(&dir, "--type luks1 --key-size 256");
    let content = run(async move {
        let disk = open(&chain).await.unwrap();
        let content = stress(&disk, 1, 4, 60).await;
        disk.flush().await.unwrap();
        content
    });
    let raw = dir.path("raw");
    let (volume, key) = (dir.path("volume"), dir.path("key"));
    sh(&format!(
        "qemu-img convert --object secret,id=s,file={key} \
         --image-opts driver=luks,key-secret=s,file.filename={volume} -O raw {raw}"
    ));
    assert!(fs::read(raw).unwrap() == content);
}

/// And we read what QEMU has written.
#[test]
fn luks1_of_qemu() {
    let dir = Dir::new();
    let mut content = vec![0; 4 << 20];
    Random::new(3).fill(&mut content);
    let (raw, key) = (dir.file("raw", &content), dir.file("key", b"secret"));
    let volume = dir.path("volume");
    sh(&format!(
        "qemu-img convert --object secret,id=s,file={key} -O luks \
         -o key-secret=s,iter-time=10 {raw} {volume}"
    ));
    run(async move {
        let disk = open(&format!(
            "crypt:passphrase-file={key}+raw:{volume},readonly=yes"
        ))
        .await;
        let disk = disk.unwrap();
        assert_eq!(disk.info().size, content.len() as u64);
        let mut have = vec![0; content.len()];
        read(&disk, 0, &mut have).await;
        assert!(have == content);
    });
}

/// Without a device mapper, cryptsetup itself can decrypt all the same: it takes the volume's
/// encryption off in place.
fn decrypted_by_cryptsetup(options: &str, sector: u32) {
    let dir = Dir::new();
    let chain = format(&dir, options);
    let content = run(async move {
        let disk = open(&chain).await.unwrap();
        assert_eq!(disk.info().block_size, sector);
        let content = stress(&disk, u64::from(sector), 4, 60).await;
        disk.flush().await.unwrap();
        content
    });
    let (volume, key) = (dir.path("volume"), dir.path("key"));
    // The volume key, as cryptsetup finds it, has to be ours: by the encryption of one sector.
    let out = dir.path("master");
    sh(&format!(
        "cryptsetup -q luksDump --dump-volume-key --volume-key-file {out} --key-file {key} {volume}"
    ));
    let master = fs::read(out).unwrap();
    let offset = 16 << 20;
    let mut bytes = fs::read(volume).unwrap().split_off(offset);
    let half = master.len() / 2;
    match half {
        16 => plain::<aes::Aes128>(&master, &mut bytes, sector),
        _ => plain::<aes::Aes256>(&master, &mut bytes, sector),
    }
    assert!(bytes == content);
}

/// By another implementation of XTS.
fn plain<C>(master: &[u8], bytes: &mut [u8], sector: u32)
where
    C: aes::cipher::KeyInit
        + aes::cipher::BlockCipherEncrypt
        + aes::cipher::BlockCipherDecrypt
        + aes::cipher::BlockSizeUser<BlockSize = aes::cipher::consts::U16>,
{
    let (one, two) = master.split_at(master.len() / 2);
    let key = |key: &[u8]| C::new_from_slice(key).unwrap();
    let xts = xts_mode::Xts128::new(key(one), key(two));
    xts.decrypt_area(bytes, sector as usize, 0, |number| {
        xts_mode::get_tweak_default(number * u128::from(sector / 512))
    });
}

#[test]
fn luks2_with_argon2id() {
    decrypted_by_cryptsetup("--type luks2 --key-size 512 --sector-size 512", 512);
}

#[test]
fn luks2_with_large_sectors_and_a_short_key() {
    decrypted_by_cryptsetup("--type luks2 --key-size 256 --sector-size 4096", 4096);
}

#[test]
fn luks2_with_pbkdf2_and_another_hash() {
    decrypted_by_cryptsetup(
        "--type luks2 --pbkdf pbkdf2 --hash sha512 --sector-size 512",
        512,
    );
}

#[test]
fn luks2_with_argon2i_and_two_slots() {
    let dir = Dir::new();
    let argon = "--pbkdf argon2i --pbkdf-force-iterations 4 --pbkdf-memory 1024";
    let chain = format(&dir, &format!("--type luks2 {argon}"));
    let (volume, key) = (dir.path("volume"), dir.path("key"));
    let second = dir.file("second", b"other\n");
    sh(&format!(
        "cryptsetup -q luksAddKey {argon} --key-file {key} {volume} {second}"
    ));
    run(async move {
        let disk = open(&chain).await.unwrap();
        write(&disk, 4096, &[7; 512]).await;
        let mut have = [0; 512];
        // With all of the second file, newline and all.
        let disk = open(&format!("crypt:key-file={second}+{volume}"))
            .await
            .unwrap();
        read(&disk, 4096, &mut have).await;
        assert_eq!(have, [7; 512]);
        // Its first line alone is another passphrase.
        let error = open(&format!("crypt:passphrase-file={second}+{volume}")).await;
        let error = error.err().unwrap().to_string();
        assert!(error.contains("no keyslot has this passphrase"), "{error}");
    });
}

#[test]
fn a_header_of_its_own_and_a_damaged_one() {
    let dir = Dir::new();
    let header = dir.sparse("header", 16 << 20);
    let chain = format(&dir, &format!("--type luks2 --header {header}"));
    let (volume, key) = (dir.path("volume"), dir.path("key"));
    let chain = chain.replace("+/", &format!(",header={header}+/"));
    run(async move {
        let disk = open(&chain).await.unwrap();
        assert_eq!(disk.info().size, SIZE);
        write(&disk, 0, &[9; 4096]).await;
        // The first header is damaged: the second is good.
        let mut bytes = fs::read(&header).unwrap();
        bytes[5000] ^= 1;
        fs::write(&header, &bytes).unwrap();
        let disk = open(&chain).await.unwrap();
        let mut have = [0; 4096];
        read(&disk, 0, &mut have).await;
        assert_eq!(have, [9; 4096]);
        // Both are.
        bytes[0x4000 + 5000] ^= 1;
        fs::write(&header, &bytes).unwrap();
        let error = open(&chain).await.err().unwrap().to_string();
        assert!(error.contains("checksum"), "{error}");
        let error = open(&format!("crypt:key-file={key}+{volume}")).await;
        let error = error.err().unwrap().to_string();
        assert!(error.contains("no LUKS header"), "{error}");
    });
}

/// Damage anywhere in a header must not do more than an error.
#[test]
fn random_damage_is_an_error() {
    let dir = Dir::new();
    let chain = format(&dir, "--type luks1");
    let volume = dir.path("volume");
    run(async move {
        let whole = fs::read(&volume).unwrap();
        let random = Random::new(8);
        for _ in 0..100 {
            let mut bytes = whole[..4096].to_vec();
            for _ in 0..1 + random.below(4) {
                let at = random.below(592) as usize;
                bytes[at] = random.below(256) as u8;
            }
            // Iterations stay small, or this takes for ever.
            for at in (0..8).map(|slot| 208 + slot * 48 + 4).chain([164]) {
                bytes[at] = 0;
                bytes[at + 1] = 0;
            }
            let mut file = fs::OpenOptions::new().write(true).open(&volume).unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            let _ = open(&chain).await;
        }
    });
}
