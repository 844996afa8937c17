// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The network protocol's layouts, constants and hash against those of `netif.h`.

use proptest::prelude::*;
use protocol::netif::{
    ctrl, extra, gso, hash, rxf, status, toeplitz, txf, Control, Extra, HashKind, Info, Rx, Tx,
    HASH_KEY_SIZE, MAX_TX_SIZE, NR_SLOTS_MIN,
};
use protocol::ring::{Codec, Layout};
use protocol_oracle::c;
use protocol_oracle::layout::{Entry, I386, X86_64};

/// The layouts are the same in every ABI.
const ABIS: [&[Entry]; 2] = [X86_64, I386];

fn find(table: &[Entry], name: &str) -> Entry {
    *table
        .iter()
        .find(|e| e.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

/// Bytes that all differ, so that each field's value tells where it was read.
fn bytes() -> Vec<u8> {
    (100..116).collect()
}

/// What C has in this field of `bytes()`.
fn number(entry: Entry) -> u64 {
    let bytes = bytes();
    let at = entry.value as usize;
    let field = bytes[at..at + entry.size].iter().rev();
    field.fold(0, |n, byte| (n << 8) | u64::from(*byte))
}

#[test]
fn sizes() {
    for c in ABIS {
        let size = |name| find(c, name).size;
        let tx = (
            "netif_tx_request",
            "netif_tx_response",
            "netif_tx_ring_size",
        );
        let rx = (
            "netif_rx_request",
            "netif_rx_response",
            "netif_rx_ring_size",
        );
        let ctrl = (
            "xen_netif_ctrl_request",
            "xen_netif_ctrl_response",
            "netif_ctrl_ring_size",
        );
        for ((request, response, entries), ours) in [
            (tx, (Tx.request_size(), Tx.response_size())),
            (rx, (Rx.request_size(), Rx.response_size())),
            (ctrl, (Control.request_size(), Control.response_size())),
        ] {
            assert_eq!(ours, (size(request), size(response)));
            let layout = Layout::new(4096, ours.0.max(ours.1)).unwrap();
            assert_eq!(i64::from(layout.entries()), find(c, entries).value);
        }
        assert_eq!(size("netif_extra_info"), 8);
    }
}

#[test]
fn fields() {
    let bytes = bytes();
    for c in ABIS {
        let field = |name: &str| number(find(c, name));
        let check = |structure: &str, fields: &[(&str, u64)]| {
            for (name, value) in fields {
                let name = format!("{structure}.{name}");
                assert_eq!(*value, field(&name), "{name}");
            }
        };
        let request = Tx.decode_request(&bytes).request();
        let fields = [
            ("gref", request.gref.into()),
            ("offset", request.offset.into()),
            ("flags", request.flags.into()),
            ("id", request.id.into()),
            ("size", request.size.into()),
        ];
        check("netif_tx_request", &fields);
        let response = Tx.decode_response(&bytes);
        let fields = [
            ("id", response.id.into()),
            ("status", (response.status as u16).into()),
        ];
        check("netif_tx_response", &fields);
        let request = Rx.decode_request(&bytes);
        let fields = [("id", request.id.into()), ("gref", request.gref.into())];
        check("netif_rx_request", &fields);
        let response = Rx.decode_response(&bytes).response();
        let fields = [
            ("id", response.id.into()),
            ("offset", response.offset.into()),
            ("flags", response.flags.into()),
            ("status", (response.status as u16).into()),
        ];
        check("netif_rx_response", &fields);
        let request = Control.decode_request(&bytes);
        let fields = [("id", request.id.into()), ("type", request.kind.into())];
        check("xen_netif_ctrl_request", &fields);
        let array = find(c, "xen_netif_ctrl_request.data");
        assert_eq!(array.size, 12);
        for (i, data) in request.data.iter().enumerate() {
            let value = array.value + 4 * i as i64;
            let element = Entry {
                value,
                size: 4,
                ..array
            };
            assert_eq!(u64::from(*data), number(element));
        }
        let response = Control.decode_response(&bytes);
        let fields = [
            ("id", response.id.into()),
            ("type", response.kind.into()),
            ("status", response.status.into()),
            ("data", response.data.into()),
        ];
        check("xen_netif_ctrl_response", &fields);
    }
}

#[test]
fn extra_information() {
    for c in ABIS {
        let field = |name: &str| number(find(c, &format!("netif_extra_info.{name}")));
        assert_eq!(find(c, "netif_extra_info.type").value, 0);
        let of = |kind: u8| {
            let mut bytes = bytes();
            bytes[0] = kind;
            Extra::decode(&bytes)
        };
        assert_eq!(of(extra::GSO).more, field("flags") & 1 != 0);
        let Info::Gso {
            size,
            kind,
            features,
        } = of(extra::GSO).info
        else {
            panic!()
        };
        assert_eq!(u64::from(size), field("u.gso.size"));
        assert_eq!(u64::from(kind), field("u.gso.type"));
        assert_eq!(u64::from(features), field("u.gso.features"));
        for info in [of(extra::MCAST_ADD).info, of(extra::MCAST_DEL).info] {
            let (Info::McastAdd(address) | Info::McastDel(address)) = info else {
                panic!()
            };
            let c = find(c, "netif_extra_info.u.mcast.addr");
            assert_eq!(address, bytes()[c.value as usize..][..c.size]);
        }
        let Info::Hash {
            kind,
            algorithm,
            value,
        } = of(extra::HASH).info
        else {
            panic!()
        };
        assert_eq!(u64::from(kind), field("u.hash.type"));
        assert_eq!(u64::from(algorithm), field("u.hash.algorithm"));
        assert_eq!(u64::from(value), field("u.hash.value"));
    }
}

#[test]
fn constants() {
    let kind = |kind: HashKind| i64::from(kind.number());
    for (ours, name) in [
        (i64::from(txf::CSUM_BLANK), "NETTXF_csum_blank"),
        (txf::DATA_VALIDATED.into(), "NETTXF_data_validated"),
        (txf::MORE_DATA.into(), "NETTXF_more_data"),
        (txf::EXTRA_INFO.into(), "NETTXF_extra_info"),
        (rxf::DATA_VALIDATED.into(), "NETRXF_data_validated"),
        (rxf::CSUM_BLANK.into(), "NETRXF_csum_blank"),
        (rxf::MORE_DATA.into(), "NETRXF_more_data"),
        (rxf::EXTRA_INFO.into(), "NETRXF_extra_info"),
        (rxf::GSO_PREFIX.into(), "NETRXF_gso_prefix"),
        (status::DROPPED.into(), "NETIF_RSP_DROPPED"),
        (status::ERROR.into(), "NETIF_RSP_ERROR"),
        (status::OKAY.into(), "NETIF_RSP_OKAY"),
        (status::NULL.into(), "NETIF_RSP_NULL"),
        (NR_SLOTS_MIN as i64, "XEN_NETIF_NR_SLOTS_MIN"),
        (MAX_TX_SIZE.into(), "XEN_NETIF_MAX_TX_SIZE"),
        (extra::GSO.into(), "XEN_NETIF_EXTRA_TYPE_GSO"),
        (extra::MCAST_ADD.into(), "XEN_NETIF_EXTRA_TYPE_MCAST_ADD"),
        (extra::MCAST_DEL.into(), "XEN_NETIF_EXTRA_TYPE_MCAST_DEL"),
        (extra::HASH.into(), "XEN_NETIF_EXTRA_TYPE_HASH"),
        (extra::FLAG_MORE.into(), "XEN_NETIF_EXTRA_FLAG_MORE"),
        (gso::NONE.into(), "XEN_NETIF_GSO_TYPE_NONE"),
        (gso::TCPV4.into(), "XEN_NETIF_GSO_TYPE_TCPV4"),
        (gso::TCPV6.into(), "XEN_NETIF_GSO_TYPE_TCPV6"),
        (hash::IPV4.into(), "XEN_NETIF_CTRL_HASH_TYPE_IPV4"),
        (hash::IPV4_TCP.into(), "XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP"),
        (hash::IPV6.into(), "XEN_NETIF_CTRL_HASH_TYPE_IPV6"),
        (hash::IPV6_TCP.into(), "XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP"),
        (kind(HashKind::Ipv4), "_XEN_NETIF_CTRL_HASH_TYPE_IPV4"),
        (
            kind(HashKind::Ipv4Tcp),
            "_XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP",
        ),
        (kind(HashKind::Ipv6), "_XEN_NETIF_CTRL_HASH_TYPE_IPV6"),
        (
            kind(HashKind::Ipv6Tcp),
            "_XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP",
        ),
        (
            hash::ALGORITHM_NONE.into(),
            "XEN_NETIF_CTRL_HASH_ALGORITHM_NONE",
        ),
        (
            hash::ALGORITHM_TOEPLITZ.into(),
            "XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ",
        ),
        (ctrl::INVALID.into(), "XEN_NETIF_CTRL_TYPE_INVALID"),
        (
            ctrl::GET_HASH_FLAGS.into(),
            "XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS",
        ),
        (
            ctrl::SET_HASH_FLAGS.into(),
            "XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS",
        ),
        (
            ctrl::SET_HASH_KEY.into(),
            "XEN_NETIF_CTRL_TYPE_SET_HASH_KEY",
        ),
        (
            ctrl::GET_HASH_MAPPING_SIZE.into(),
            "XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE",
        ),
        (
            ctrl::SET_HASH_MAPPING_SIZE.into(),
            "XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE",
        ),
        (
            ctrl::SET_HASH_MAPPING.into(),
            "XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING",
        ),
        (
            ctrl::SET_HASH_ALGORITHM.into(),
            "XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM",
        ),
        (
            ctrl::GET_GREF_MAPPING_SIZE.into(),
            "XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE",
        ),
        (
            ctrl::ADD_GREF_MAPPING.into(),
            "XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING",
        ),
        (
            ctrl::DEL_GREF_MAPPING.into(),
            "XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING",
        ),
        (ctrl::SUCCESS.into(), "XEN_NETIF_CTRL_STATUS_SUCCESS"),
        (
            ctrl::NOT_SUPPORTED.into(),
            "XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED",
        ),
        (
            ctrl::INVALID_PARAMETER.into(),
            "XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER",
        ),
        (
            ctrl::BUFFER_OVERFLOW.into(),
            "XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW",
        ),
    ] {
        assert_eq!(ours, find(X86_64, name).value, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hashes(
        key in proptest::collection::vec(any::<u8>(), HASH_KEY_SIZE),
        data in proptest::collection::vec(any::<u8>(), 0..=HASH_KEY_SIZE - 4),
    ) {
        let array: [u8; HASH_KEY_SIZE] = key.as_slice().try_into().unwrap();
        prop_assert_eq!(toeplitz(&array, &data), c::toeplitz(&key, &data));
    }
}
