// SPDX-License-Identifier: GPL-2.0
//! Tests of `mirror`, with legs that fail and come back, and with the power cut at every point.

use super::*;
use crate::testing::{contents, Fake, Guest, Op, Random, World};

const SECTORS: u64 = 120;
const SIZE: u64 = SECTORS * 512;
const REGION: u64 = 4096;

struct Three {
    legs: [Fake; 2],
    map: Fake,
}

impl Three {
    /// Two legs that are the same already, or not.
    async fn new(world: &Rc<World>, equal: bool) -> Self {
        let first = Fake::stamped(world, SECTORS);
        let second = match equal {
            true => Fake::stamped(world, SECTORS),
            false => Fake::new(world, vec![0xee; SIZE as usize]),
        };
        let map = Fake::new(world, vec![0; map::file_len(SIZE, REGION) as usize]);
        Map::create(&map.any(), SIZE, REGION, equal).await.unwrap();
        let legs = [first, second];
        Self { legs, map }
    }

    async fn open(&self) -> io::Result<(AnyDisk, Rc<Legs>)> {
        let settings = Settings {
            read: 0,
            retry: Duration::from_millis(1),
            settle: Duration::from_millis(1),
            rate: None,
        };
        let legs = [self.legs[0].any(), self.legs[1].any()];
        let mirror = Mirror::new(legs, self.map.any(), settings, Log::new("mirror")).await?;
        let legs = mirror.legs.clone();
        Ok((AnyDisk::new(mirror), legs))
    }

    fn after_cut(&self, cut: usize, random: &Random) -> Self {
        let world = World::new(cut as u64);
        let left = |fake: &Fake| Fake::new(&world, fake.after_cut(cut, random));
        Self {
            legs: [left(&self.legs[0]), left(&self.legs[1])],
            map: left(&self.map),
        }
    }

    fn is_equal(&self) -> bool {
        self.legs[0].data() == self.legs[1].data()
    }
}

fn broken(leg: &Fake) {
    leg.hook(|_, _, _| Err(io::Error::from_raw_os_error(5)));
}

async fn synced(legs: &Legs) {
    let wait = async {
        while legs.map.stale(0) + legs.map.stale(1) > 0 {
            rt::sleep(Duration::from_millis(1)).await;
        }
    };
    let done = rt::timeout(Duration::from_secs(20), wait).await;
    done.expect("the resync comes to an end");
}

#[test]
fn both_have_all() {
    rt::run(async {
        let world = World::new(1);
        let three = Three::new(&world, true).await;
        let (disk, legs) = three.open().await.unwrap();
        let guest = Guest::new(&world);
        guest.busy(&disk, SECTORS, 400).await;
        disk.write_zeroes(0, 512, false).await.unwrap();
        guest.write(&disk, 0, 1, true).await.unwrap();
        assert_eq!(legs.map.stale(0) + legs.map.stale(1), 0);
        disk.close().await.unwrap();
        guest.check(&three.legs[0].data(), None);
        guest.check(&three.legs[1].data(), None);
        assert!(legs.map.written().is_empty());
        // An orderly end leaves nothing to be copied.
        let writes = three.legs[1].count(Op::Write);
        let (_disk, legs) = three.open().await.unwrap();
        synced(&legs).await;
        assert_eq!(three.legs[1].count(Op::Write), writes);
    })
    .unwrap();
}

#[test]
fn a_new_leg_gets_all_while_in_use() {
    rt::run(async {
        let world = World::new(2);
        let three = Three::new(&world, false).await;
        let (disk, legs) = three.open().await.unwrap();
        let guest = Guest::new(&world);
        guest.discards.set(false);
        assert_eq!(legs.map.stale(1), SECTORS / 8);
        rt::join(guest.busy(&disk, SECTORS, 400), synced(&legs)).await;
        synced(&legs).await;
        guest.check(&contents(&disk).await.unwrap(), None);
        assert!(three.is_equal());
    })
    .unwrap();
}

#[test]
fn a_leg_may_fail_and_come_back() {
    for bad in 0..2 {
        rt::run(async move {
            let world = World::new(3 + bad as u64);
            let three = Three::new(&world, true).await;
            let (disk, legs) = three.open().await.unwrap();
            let guest = Guest::new(&world);
            guest.discards.set(false);
            guest.busy(&disk, SECTORS, 50).await;
            broken(&three.legs[bad]);
            guest.busy(&disk, SECTORS, 100).await;
            guest.write(&disk, 0, 8, true).await.unwrap();
            assert!(legs.failed[bad].get() && !legs.failed[1 - bad].get());
            assert!(legs.map.stale(bad) > 0 && legs.map.stale(1 - bad) == 0);
            guest.check(&contents(&disk).await.unwrap(), None);
            // The program comes again before the leg does: the map has not forgotten.
            let _ = disk.close().await;
            drop((disk, legs));
            let (disk, legs) = three.open().await.unwrap();
            assert!(legs.map.stale(bad) > 0);
            guest.check(&contents(&disk).await.unwrap(), None);
            let busy = guest.busy(&disk, SECTORS, 200);
            let back = async {
                rt::sleep(Duration::from_millis(5)).await;
                three.legs[bad].unhook();
            };
            rt::join(busy, back).await;
            synced(&legs).await;
            assert!(!legs.failed[bad].get());
            guest.check(&contents(&disk).await.unwrap(), None);
            assert!(three.is_equal());
        })
        .unwrap();
    }
}

#[test]
fn a_leg_may_come_back_without_what_was_not_flushed() {
    for seed in 0..20 {
        rt::run(async move {
            let bad = seed as usize % 2;
            let world = World::new(seed);
            let three = Three::new(&world, true).await;
            let (disk, legs) = three.open().await.unwrap();
            let guest = Guest::new(&world);
            guest.discards.set(false);
            guest.busy(&disk, SECTORS, 40).await;
            broken(&three.legs[bad]);
            three.legs[bad].lose_cache();
            let at = world.random.below(SECTORS);
            // It is noticed by a write or by a flush.
            match seed % 4 {
                0 | 1 => guest.write(&disk, at, 1, false).await.unwrap(),
                _ => guest.flush(&disk).await.unwrap(),
            }
            guest.check(&contents(&disk).await.unwrap(), None);
            three.legs[bad].unhook();
            synced(&legs).await;
            assert!(three.is_equal());
            guest.check(&contents(&disk).await.unwrap(), None);
        })
        .unwrap();
    }
}

#[test]
fn one_error_in_a_resync_leaves_no_difference() {
    for seed in 0..100 {
        rt::run(async move {
            let world = World::new(seed);
            let three = Three::new(&world, false).await;
            let (disk, legs) = three.open().await.unwrap();
            let guest = Guest::new(&world);
            guest.discards.set(false);
            let mut left = world.random.below(20);
            three.legs[1].hook(move |op, _, len| {
                // Not one of the resync's own.
                if op != Op::Write || len == REGION {
                    return Ok(());
                }
                left = left.wrapping_sub(1);
                match left {
                    u64::MAX => Err(io::Error::from_raw_os_error(5)),
                    _ => Ok(()),
                }
            });
            guest.busy(&disk, SECTORS, 32).await;
            three.legs[1].unhook();
            synced(&legs).await;
            guest.check(&contents(&disk).await.unwrap(), None);
            assert!(three.is_equal(), "seed {seed}");
        })
        .unwrap();
    }
}

#[test]
fn what_one_leg_alone_has_is_known_before_it_is_acknowledged() {
    rt::run(async {
        let world = World::new(1);
        let three = Three::new(&world, true).await;
        let (disk, _legs) = three.open().await.unwrap();
        let guest = Guest::new(&world);
        guest.write(&disk, 0, 1, true).await.unwrap();
        broken(&three.legs[0]);
        guest.write(&disk, 0, 1, true).await.unwrap();
        let cut = world.now();
        let left = three.after_cut(cut, &Random::new(1));
        let (disk, legs) = left.open().await.unwrap();
        guest.check(&contents(&disk).await.unwrap(), Some(cut));
        synced(&legs).await;
        guest.check(&left.legs[0].data(), Some(cut));
    })
    .unwrap();
}

#[test]
fn errors_now_and_then_leave_no_difference() {
    for seed in 0..20 {
        rt::run(async move {
            let bad = seed as usize % 2;
            let world = World::new(seed);
            let three = Three::new(&world, seed % 3 > 0).await;
            let (disk, legs) = three.open().await.unwrap();
            if bad == 0 {
                // Before that it alone has all.
                synced(&legs).await;
            }
            let guest = Guest::new(&world);
            guest.discards.set(false);
            let random = Random::new(seed);
            three.legs[bad].hook(move |op, _, _| match op {
                Op::Write if random.below(8) == 0 => Err(io::Error::from_raw_os_error(5)),
                _ => Ok(()),
            });
            guest.busy(&disk, SECTORS, 400).await;
            three.legs[bad].unhook();
            synced(&legs).await;
            guest.check(&contents(&disk).await.unwrap(), None);
            assert!(three.is_equal());
        })
        .unwrap();
    }
}

#[test]
fn a_bad_sector_is_written_anew() {
    rt::run(async {
        let world = World::new(5);
        let three = Three::new(&world, true).await;
        let (disk, legs) = three.open().await.unwrap();
        let before = contents(&disk).await.unwrap();
        let reads = Rc::new(Cell::new(0));
        let count = reads.clone();
        three.legs[0].hook(move |op, _, _| {
            let first = op == Op::Read && count.replace(count.get() + 1) == 0;
            match first {
                true => Err(io::Error::from_raw_os_error(61)),
                false => Ok(()),
            }
        });
        let mut buf = Buf::zeroed(512);
        disk.read(1024, &mut buf).await.unwrap();
        assert!(buf[..] == before[1024..1536]);
        assert_eq!((legs.map.stale(0), reads.get()), (1, 1));
        synced(&legs).await;
        assert_eq!(three.legs[0].count(Op::Write), 1);
    })
    .unwrap();
}

#[test]
fn what_neither_can_is_an_error() {
    rt::run(async {
        let world = World::new(6);
        let three = Three::new(&world, true).await;
        let (disk, legs) = three.open().await.unwrap();
        let guest = Guest::new(&world);
        broken(&three.legs[0]);
        guest.write(&disk, 0, 1, false).await.unwrap();
        broken(&three.legs[1]);
        guest.write(&disk, 0, 1, false).await.unwrap_err();
        guest.write(&disk, 64, 1, false).await.unwrap_err();
        guest.flush(&disk).await.unwrap_err();
        disk.read(0, &mut Buf::new(512)).await.unwrap_err();
        three.legs[0].unhook();
        three.legs[1].unhook();
        synced(&legs).await;
        assert!(three.is_equal());
        guest.flush(&disk).await.unwrap();
        // Without its map it must not go on: nobody would know what differs.
        broken(&three.map);
        guest.write(&disk, 32, 1, false).await.unwrap_err();
    })
    .unwrap();
}

#[test]
fn a_write_that_is_given_up_leaves_no_difference() {
    rt::run(async {
        let world = World::new(7);
        let three = Three::new(&world, true).await;
        let (disk, legs) = three.open().await.unwrap();
        for n in 0..40u64 {
            let buf = Buf::copy_of(&[n as u8; 512]);
            let write = disk.write(n * 512, &buf, false);
            let soon = async {
                for _ in 0..n % 10 {
                    rt::yield_now().await;
                }
            };
            rt::race(soon, write).await;
        }
        synced(&legs).await;
        assert!(three.is_equal());
    })
    .unwrap();
}

#[test]
fn a_power_cut_leaves_what_was_flushed_on_both() {
    // Which leg fails in the middle, if one does.
    for (seed, bad) in [(1, None), (2, Some(0)), (3, Some(1)), (4, None)] {
        rt::run(async move {
            let world = World::new(seed);
            let three = Three::new(&world, true).await;
            let (disk, legs) = three.open().await.unwrap();
            let (guest, start) = (Guest::new(&world), world.now());
            guest.discards.set(false);
            guest.busy(&disk, SECTORS, 24).await;
            // Lets it forget what it has written.
            rt::sleep(Duration::from_millis(5)).await;
            if let Some(bad) = bad {
                broken(&three.legs[bad]);
                guest.busy(&disk, SECTORS, 16).await;
                three.legs[bad].unhook();
            }
            guest.busy(&disk, SECTORS, 16).await;
            synced(&legs).await;
            guest.busy(&disk, SECTORS, 8).await;
            let random = Random::new(seed);
            for cut in start..world.now() {
                // All of one, and samples of the others, for the time it takes.
                if seed != 2 && random.below(4) > 0 {
                    continue;
                }
                let left = three.after_cut(cut, &random);
                let (disk, legs) = left.open().await.unwrap();
                guest.check(&contents(&disk).await.unwrap(), Some(cut));
                synced(&legs).await;
                guest.check(&left.legs[0].data(), Some(cut));
                assert!(left.is_equal(), "cut at {cut}");
            }
        })
        .unwrap();
    }
}

#[test]
fn maps_are_checked() {
    rt::run(async {
        let world = World::new(8);
        let three = Three::new(&world, true).await;
        let map = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut data = three.map.data();
            change(&mut data);
            Fake::new(&world, data).any()
        };
        let error = |map: AnyDisk, size| async move { Map::open(map, size).await.err().unwrap() };
        for (map, size, what) in [
            (map(&|data| data[0] ^= 1), SIZE, "no map of a mirror"),
            (map(&|data| data[8] ^= 1), SIZE, "of a version"),
            (map(&|data| data[20] ^= 1), SIZE, "header is damaged"),
            (map(&|data| data.truncate(4096)), SIZE, "lost its end"),
            (map(&|data| data[4100] = 3), SIZE, "stale on both"),
            (
                map(&|_| ()),
                SIZE + 512,
                "the size of a mirror cannot change",
            ),
        ] {
            let error = error(map, size).await.to_string();
            assert!(error.contains(what), "{error}");
        }
    })
    .unwrap();
}
