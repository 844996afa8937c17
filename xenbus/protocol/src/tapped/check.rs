// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The check of what a program asks of a disk, as strict as that of what a guest asks.

use crate::blkif::{self, Limits, Op};
use crate::tap::{self, flag, ioctl::geometry, ioctl::Geometry, op, Request};

/// Where the data of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// There is none.
    None,
    /// In the window, from this sector on.
    Window(u32),
    /// In the pages of the guest's request with this id.
    Guest(u32),
}

/// Why a request is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// The operation is not known, or the disk does not have it.
    Unsupported,
    /// Anything else.
    Invalid,
}

impl Bad {
    /// The status of the response, one of [`status`](tap::status).
    pub fn status(self) -> i16 {
        match self {
            Bad::Unsupported => tap::status::EOPNOTSUPP,
            Bad::Invalid => tap::status::ERROR,
        }
    }
}

/// Checks a request of the program's against what the disk allows, and the size of the window in
/// sectors.
pub fn check(
    request: &Request,
    limits: &Limits,
    window: u64,
) -> Result<(blkif::Request, Data), Bad> {
    let features = &limits.features;
    let has = |flag: u8| request.flags & flag != 0;
    let (op, flags) = match request.op {
        op::READ => (Op::Read, flag::GUEST),
        op::WRITE if has(flag::BARRIER) => (Op::WriteBarrier, flag::BARRIER | flag::GUEST),
        op::WRITE => (Op::Write, flag::GUEST),
        op::FLUSH => (Op::Flush, flag::BARRIER),
        op::DISCARD => (
            Op::Discard {
                secure: has(flag::SECURE),
            },
            flag::SECURE,
        ),
        _ => return Err(Bad::Unsupported),
    };
    if request.flags & !flags != 0 {
        return Err(Bad::Invalid);
    }
    let offered = match op {
        Op::Read | Op::Write => true,
        Op::WriteBarrier => features.barrier,
        Op::Flush => features.flush,
        Op::Discard { secure: false } => features.discard,
        Op::Discard { secure: true } => features.discard && features.secure_discard,
    };
    if !offered {
        return Err(Bad::Unsupported);
    }

    let (sector, nr_sectors) = (request.sector, request.nr_sectors);
    let per_block = u64::from(limits.sector_size / blkif::SECTOR_SIZE);
    let aligned = (sector | nr_sectors) & per_block.saturating_sub(1) == 0;
    let data = match op {
        Op::Flush if nr_sectors == 0 => Data::None,
        Op::Flush => return Err(Bad::Invalid),
        _ if nr_sectors == 0 || !aligned => return Err(Bad::Invalid),
        Op::Discard { .. } => Data::None,
        _ if nr_sectors > tap::MAX_SECTORS => return Err(Bad::Invalid),
        _ if has(flag::GUEST) => Data::Guest(request.guest),
        _ => {
            let end = u64::from(request.data).wrapping_add(nr_sectors);
            if request.data == tap::NO_DATA || end > window {
                return Err(Bad::Invalid);
            }
            Data::Window(request.data)
        }
    };
    if op != Op::Flush {
        let end = sector.checked_add(nr_sectors).ok_or(Bad::Invalid)?;
        if end > limits.capacity_sectors || (limits.read_only && op != Op::Read) {
            return Err(Bad::Invalid);
        }
    }
    let request = blkif::Request {
        id: u64::from(request.id),
        op,
        sector: if op == Op::Flush { 0 } else { sector },
        nr_sectors,
    };
    Ok((request, data))
}

/// Whether a disk can be like this.
pub fn check_geometry(it: &Geometry) -> bool {
    const FEATURES: u32 = geometry::FLUSH
        | geometry::DISCARD
        | geometry::SECURE_DISCARD
        | geometry::READ_ONLY
        | geometry::CDROM
        | geometry::REMOVABLE;
    let block = u64::from(it.sector_size) / tap::SECTOR_SIZE as u64;
    matches!(it.sector_size, 512 | 1024 | 2048 | 4096)
        && it.physical_sector_size.is_power_of_two()
        && it.physical_sector_size >= it.sector_size
        && it.features & !FEATURES == 0
        && it.sectors <= u64::MAX >> 10
        && it.sectors & block.wrapping_sub(1) == 0
        && it.discard_granularity & it.sector_size.wrapping_sub(1) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blkif::Offered;

    const LIMITS: Limits = Limits {
        capacity_sectors: 1000,
        read_only: false,
        max_segments: 11,
        max_indirect_segments: 256,
        sector_size: 1024,
        features: Offered {
            flush: true,
            barrier: true,
            discard: true,
            secure_discard: true,
        },
    };

    fn request(op: u8, sector: u64, nr_sectors: u64) -> Request {
        Request {
            id: 9,
            op,
            sector,
            nr_sectors,
            data: 3,
            ..Request::default()
        }
    }

    fn bad(request: Request, limits: &Limits) -> Option<Bad> {
        check(&request, limits, 100).err()
    }

    #[test]
    fn good_ones() {
        let ok = |request| check(&request, &LIMITS, 100).unwrap();
        let (it, data) = ok(request(op::READ, 10, 2));
        assert_eq!(
            (it.id, it.op, it.sector, it.nr_sectors),
            (9, Op::Read, 10, 2)
        );
        assert_eq!(data, Data::Window(3));
        assert_eq!(ok(request(op::WRITE, 998, 2)).0.op, Op::Write);
        let barrier = Request {
            flags: flag::BARRIER,
            ..request(op::WRITE, 0, 2)
        };
        assert_eq!(ok(barrier).0.op, Op::WriteBarrier);
        let guest = Request {
            flags: flag::GUEST,
            data: tap::NO_DATA,
            guest: 77,
            ..request(op::WRITE, 0, 2)
        };
        assert_eq!(ok(guest).1, Data::Guest(77));
        assert_eq!(ok(request(op::FLUSH, 5, 0)).0.sector, 0);
        assert_eq!(ok(request(op::DISCARD, 0, 1000)).1, Data::None);
    }

    #[test]
    fn places_that_are_not_there() {
        for (sector, nr_sectors) in [
            (1000, 2),
            (998, 4),
            (u64::MAX - 1, 2),
            (u64::MAX - 1, u64::MAX - 1),
            (0, 0),
            (1, 2),
            (0, 1),
        ] {
            for op in [op::READ, op::WRITE, op::DISCARD] {
                let it = request(op, sector, nr_sectors);
                assert_eq!(bad(it, &LIMITS), Some(Bad::Invalid), "{it:?}");
            }
        }
        let large = Limits {
            capacity_sectors: 10000,
            ..LIMITS
        };
        let it = request(op::READ, 0, tap::MAX_SECTORS + 2);
        assert_eq!(check(&it, &large, 10000), Err(Bad::Invalid));
        assert!(check(&request(op::DISCARD, 0, 4000), &large, 0).is_ok());
    }

    #[test]
    fn data_outside_the_window() {
        for (data, nr_sectors) in [(99, 2), (100, 2), (u32::MAX, 2), (u32::MAX - 1, 2)] {
            let it = Request {
                data,
                ..request(op::WRITE, 0, nr_sectors)
            };
            assert_eq!(bad(it, &LIMITS), Some(Bad::Invalid), "{it:?}");
            let huge = check(&it, &LIMITS, u64::MAX);
            assert_eq!(huge.is_err(), data == tap::NO_DATA);
        }
        let last = Request {
            data: 98,
            ..request(op::WRITE, 0, 2)
        };
        assert_eq!(bad(last, &LIMITS), None);
    }

    #[test]
    fn flags_and_operations_that_are_not() {
        for op in [2, 4, 6, 255] {
            assert_eq!(bad(request(op, 0, 2), &LIMITS), Some(Bad::Unsupported));
        }
        for (op, flags) in [
            (op::READ, flag::BARRIER),
            (op::READ, flag::SECURE),
            (op::WRITE, flag::SECURE),
            (op::DISCARD, flag::GUEST),
            (op::DISCARD, flag::BARRIER),
            (op::WRITE, 1 << 3),
        ] {
            let it = Request {
                flags,
                ..request(op, 0, 2)
            };
            assert_eq!(bad(it, &LIMITS), Some(Bad::Invalid), "{it:?}");
        }
        assert_eq!(bad(request(op::FLUSH, 0, 2), &LIMITS), Some(Bad::Invalid));
    }

    #[test]
    fn what_the_disk_does_not_have() {
        let none = Limits {
            features: Offered::default(),
            ..LIMITS
        };
        let barrier = Request {
            flags: flag::BARRIER,
            ..request(op::WRITE, 0, 2)
        };
        let secure = Request {
            flags: flag::SECURE,
            ..request(op::DISCARD, 0, 2)
        };
        for it in [
            barrier,
            secure,
            request(op::DISCARD, 0, 2),
            request(op::FLUSH, 0, 0),
        ] {
            assert_eq!(bad(it, &none), Some(Bad::Unsupported), "{it:?}");
        }
        let only_secure = Limits {
            features: Offered {
                discard: true,
                ..Offered::default()
            },
            ..LIMITS
        };
        assert_eq!(bad(secure, &only_secure), Some(Bad::Unsupported));
        let read_only = Limits {
            read_only: true,
            ..LIMITS
        };
        assert_eq!(bad(request(op::READ, 0, 2), &read_only), None);
        assert_eq!(bad(request(op::FLUSH, 0, 0), &read_only), None);
        for it in [request(op::WRITE, 0, 2), request(op::DISCARD, 0, 2)] {
            assert_eq!(bad(it, &read_only), Some(Bad::Invalid));
        }
        assert_eq!(Bad::Unsupported.status(), tap::status::EOPNOTSUPP);
        assert_eq!(Bad::Invalid.status(), tap::status::ERROR);
    }

    #[test]
    fn geometries() {
        let good = Geometry {
            sectors: 1024,
            sector_size: 4096,
            physical_sector_size: 4096,
            ..Geometry::default()
        };
        assert!(check_geometry(&good));
        assert!(!check_geometry(&Geometry::default()));
        for bad in [
            Geometry {
                sectors: 1025,
                ..good
            },
            Geometry {
                sectors: u64::MAX - 7,
                ..good
            },
            Geometry {
                sector_size: 8192,
                physical_sector_size: 8192,
                ..good
            },
            Geometry {
                sector_size: 0,
                ..good
            },
            Geometry {
                physical_sector_size: 2048,
                ..good
            },
            Geometry {
                physical_sector_size: 6144,
                ..good
            },
            Geometry {
                features: 1 << 6,
                ..good
            },
            Geometry {
                discard_granularity: 512,
                ..good
            },
        ] {
            assert!(!check_geometry(&bad), "{bad:?}");
        }
    }
}
