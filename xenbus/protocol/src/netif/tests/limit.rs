// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Rates and multicast addresses.

use super::*;

#[test]
fn rates() {
    let rate = |bytes, usec| Some(Rate { bytes, usec });
    assert_eq!(Rate::parse("1000,50000"), rate(1000, 50000));
    assert_eq!(Rate::parse("99999999999999999999,0"), rate(u64::MAX, 0));
    for bad in [
        "", ",", "1", "1,", ",1", "1,2,3", "1, 2", "-1,2", "+1,2", "a,b", "1,2\n",
    ] {
        assert_eq!(Rate::parse(bad), None);
    }
}

#[test]
fn credit() {
    let rate = Rate {
        bytes: 1000,
        usec: 50,
    };
    let mut credit = Credit::new(rate, 100);
    assert_eq!(credit.take(600, 100), Ok(()));
    assert_eq!(credit.take(600, 110), Err(150));
    assert_eq!(credit.take(600, 149), Err(150));
    assert_eq!(credit.take(600, 150), Ok(()));
    assert_eq!(credit.take(800, 199), Ok(()));
    assert_eq!(credit.take(1, 199), Err(200));
    assert_eq!(credit.state(), (rate, 0, 200));
    // A large packet gets through at some time.
    let mut now = 200;
    while let Err(next) = credit.take(65535, now) {
        assert!(next > now);
        now = next;
    }
    assert_eq!(now, 200 + 65 * 50);
    // What was not used for long is no more than a burst.
    now += 1_000_000;
    credit.set_rate(Rate { bytes: 100, ..rate });
    assert_eq!(credit.take(201, now), Err(now + 50));
    // And never more than a window's.
    let large = Rate {
        bytes: 200_000,
        usec: 50,
    };
    let mut credit = Credit::new(large, 0);
    assert_eq!(credit.take(150_000, 0), Ok(()));
    assert_eq!(credit.take(60_000, 60), Ok(()));
    assert_eq!(credit.take(140_001, 60), Err(110));
    assert_eq!(credit.take(140_000, 60), Ok(()));
    let mut free = Credit::new(Rate::UNLIMITED, 0);
    for _ in 0..100 {
        assert_eq!(free.take(u32::MAX, 0), Ok(()));
    }
    let mut end = Credit::new(rate, u64::MAX - 1);
    assert_eq!(end.take(2000, u64::MAX), Ok(()), "no overflow");
}

#[test]
fn multicast_addresses() {
    let mut filter = MulticastFilter::new();
    let address = |n: u8| [0x33, 0x33, 0, 0, 0, n];
    for n in 0..64 {
        assert_eq!(filter.change(Multicast::Add(address(n))), Ok(()));
    }
    assert_eq!(filter.change(Multicast::Add(address(64))), Err(TooMany));
    assert!(filter.lets_through(&address(5)));
    assert!(!filter.lets_through(&address(64)));
    assert_eq!(filter.change(Multicast::Del(address(5))), Ok(()));
    assert_eq!(
        filter.change(Multicast::Del(address(5))),
        Ok(()),
        "not there"
    );
    assert!(!filter.lets_through(&address(5)));
    assert!((0..64)
        .filter(|n| *n != 5)
        .all(|n| filter.lets_through(&address(n))));
    assert_eq!(filter.iter().count(), 63);
    assert!(filter.lets_through(&[0xff; 6]));
    assert!(filter.lets_through(&[0x52, 0, 0, 0, 0, 1]));
}
