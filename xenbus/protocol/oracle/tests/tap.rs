// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `protocol::tap` against `blktap/blktap.h`: sizes, offsets and numbers, as the C compiler gives
//! them, for 64- and 32-bit programs.

use protocol::ring::{index, Codec, HEADER};
use protocol::tap::{self, flag, ioctl, op, status, Entries, Mode, Policy, State};
use protocol_oracle::layout::{Entry, I386, X86_64};
use std::mem::{offset_of, size_of};

fn find(table: &[Entry], name: &str) -> Entry {
    *table
        .iter()
        .find(|e| e.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

const TABLES: [&[Entry]; 2] = [X86_64, I386];

#[test]
fn structures() {
    for c in TABLES {
        macro_rules! same {
            ($c:literal, $type:ty, $($field:ident),*) => {
                assert_eq!(find(c, $c).size, size_of::<$type>(), $c);
                $(
                    let field = concat!($c, ".", stringify!($field));
                    let at = find(c, field);
                    assert_eq!(at.value as usize, offset_of!($type, $field), "{field}");
                    let it = <$type>::default();
                    assert_eq!(at.size, std::mem::size_of_val(&it.$field), "{field}");
                )*
            };
        }
        same!(
            "blktap_attach",
            ioctl::Attach,
            version,
            domid,
            handle,
            flags,
            mode,
            policy,
            guest_bytes,
            own_bytes,
            nr_queues,
            reserved,
            region_bytes
        );
        same!(
            "blktap_geometry",
            ioctl::Geometry,
            sectors,
            sector_size,
            physical_sector_size,
            features,
            discard_granularity
        );
        same!(
            "blktap_info",
            ioctl::Info,
            domid,
            handle,
            flags,
            state,
            mode,
            policy,
            pid,
            nr_queues,
            nr_connected,
            generation,
            geometry
        );
        same!(
            "blktap_queue_info",
            ioctl::QueueInfo,
            domid,
            handle,
            queue,
            fe_in_flight,
            be_in_flight,
            fe_req_prod,
            fe_rsp_prod,
            be_req_prod,
            be_rsp_prod,
            refused,
            requests,
            sectors,
            latency
        );
        same!("blktap_set", ioctl::Set, domid, handle, what, value);
    }
}

#[test]
fn rings() {
    for c in TABLES {
        assert_eq!(find(c, "blktap_ring").size, HEADER);
        for (field, at) in [
            ("req_prod", index::REQ_PROD),
            ("req_event", index::REQ_EVENT),
            ("rsp_prod", index::RSP_PROD),
            ("rsp_event", index::RSP_EVENT),
        ] {
            let field = find(c, &format!("blktap_ring.{field}"));
            assert_eq!((field.value as usize, field.size), (at, 4));
        }
        assert_eq!(find(c, "blktap_request").size, Entries.request_size());
        assert_eq!(find(c, "blktap_response").size, Entries.response_size());

        // All bytes differ, so that each field's value tells where it was read.
        let bytes: Vec<u8> = (0..32).map(|i| i + 200).collect();
        let number = |name: &str| {
            let field = find(c, name);
            let at = field.value as usize;
            let bytes = bytes[at..at + field.size].iter().rev();
            bytes.fold(0u64, |n, byte| (n << 8) | u64::from(*byte))
        };
        let it = Entries.decode_request(&bytes);
        assert_eq!(u64::from(it.id), number("blktap_request.id"));
        assert_eq!(u64::from(it.op), number("blktap_request.op"));
        assert_eq!(u64::from(it.flags), number("blktap_request.flags"));
        assert_eq!(it.sector, number("blktap_request.sector"));
        assert_eq!(it.nr_sectors, number("blktap_request.nr_sectors"));
        assert_eq!(u64::from(it.data), number("blktap_request.data"));
        assert_eq!(u64::from(it.guest), number("blktap_request.guest"));
        let it = Entries.decode_response(&bytes);
        assert_eq!(u64::from(it.id), number("blktap_response.id"));
        assert_eq!(u64::from(it.op), number("blktap_response.op"));
        assert_eq!(u64::from(it.flags), number("blktap_response.flags"));
        let status = number("blktap_response.status");
        assert_eq!(u64::from(it.status as u16), status);
    }
}

#[test]
fn numbers() {
    for c in TABLES {
        let same = |name: &str, value: i64| {
            assert_eq!(find(c, &format!("BLKTAP_{name}")).value, value, "{name}");
        };
        same("VERSION", tap::VERSION.into());
        same("RING_BYTES", tap::RING_BYTES as i64);
        same("ENTRY", tap::ENTRY as i64);
        same("ENTRIES", tap::ring_entries().into());
        same("SECTOR_SIZE", tap::SECTOR_SIZE as i64);
        same("MAX_SECTORS", tap::MAX_SECTORS as i64);
        same("NO_DATA", i64::from(tap::NO_DATA as i32));
        same("OP_READ", op::READ.into());
        same("OP_WRITE", op::WRITE.into());
        same("OP_FLUSH", op::FLUSH.into());
        same("OP_DISCARD", op::DISCARD.into());
        same("FLAG_BARRIER", flag::BARRIER.into());
        same("FLAG_SECURE", flag::SECURE.into());
        same("FLAG_GUEST", flag::GUEST.into());
        same("FLAG_PASS", flag::PASS.into());
        same("OKAY", status::OKAY.into());
        same("ERROR", status::ERROR.into());
        same("EOPNOTSUPP", status::EOPNOTSUPP.into());
        same("MODE_PASSTHROUGH", Mode::Passthrough as i64);
        same("MODE_INTERPOSE", Mode::Interpose as i64);
        same("MODE_INTERCEPT_FE", Mode::InterceptFe as i64);
        same("MODE_INTERCEPT_BE", Mode::InterceptBe as i64);
        same("POLICY_HOLD", Policy::Hold as i64);
        same("POLICY_PASSTHROUGH", Policy::Passthrough as i64);
        same("POLICY_ERROR", Policy::Error as i64);
        same("STATE_IDLE", State::Idle as i64);
        same("STATE_CONNECTED", State::Connected as i64);
        same("STATE_GONE", State::Gone as i64);
        same("STATE_BROKEN", State::Broken as i64);
        same("ATTACH_WAIT", ioctl::WAIT.into());
        same("ATTACH_NO_DATA", ioctl::NO_DATA.into());
        same("ATTACH_POLLS", ioctl::POLLS.into());
        same("GEOMETRY_FLUSH", ioctl::geometry::FLUSH.into());
        same("GEOMETRY_DISCARD", ioctl::geometry::DISCARD.into());
        let secure = ioctl::geometry::SECURE_DISCARD;
        same("GEOMETRY_SECURE_DISCARD", secure.into());
        same("GEOMETRY_READ_ONLY", ioctl::geometry::READ_ONLY.into());
        same("GEOMETRY_CDROM", ioctl::geometry::CDROM.into());
        same("GEOMETRY_REMOVABLE", ioctl::geometry::REMOVABLE.into());
        same("INFO_NEXT", ioctl::NEXT.into());
        same("BUCKETS", ioctl::BUCKETS as i64);
        same("SET_MODE", ioctl::set::MODE.into());
        same("SET_POLICY", ioctl::set::POLICY.into());
        same("SET_REMOVE", ioctl::set::REMOVE.into());
    }
}

#[test]
fn ioctls() {
    const WRITE: u32 = 1;
    const READ_WRITE: u32 = 3;
    for c in TABLES {
        for (name, direction, nr, size) in [
            (
                "ATTACH",
                READ_WRITE,
                ioctl::ATTACH,
                size_of::<ioctl::Attach>(),
            ),
            ("KICK", WRITE, ioctl::KICK, 8),
            ("INFO", READ_WRITE, ioctl::INFO, size_of::<ioctl::Info>()),
            (
                "QUEUE_INFO",
                READ_WRITE,
                ioctl::QUEUE_INFO,
                size_of::<ioctl::QueueInfo>(),
            ),
            ("SET", WRITE, ioctl::SET, size_of::<ioctl::Set>()),
            (
                "SET_GEOMETRY",
                WRITE,
                ioctl::SET_GEOMETRY,
                size_of::<ioctl::Geometry>(),
            ),
        ] {
            let ours =
                direction << 30 | (size as u32) << 16 | u32::from(ioctl::TYPE) << 8 | u32::from(nr);
            let theirs = find(c, &format!("BLKTAP_{name}")).value;
            assert_eq!(i64::from(ours as i32), theirs, "{name}");
        }
    }
}
