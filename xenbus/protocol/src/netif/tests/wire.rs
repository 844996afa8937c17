// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Entries of the rings.

use super::*;

#[test]
fn rings_of_a_page() {
    assert_eq!(Front::new(Area::page(), Tx).unwrap().size(), 256);
    assert_eq!(Front::new(Area::page(), Rx).unwrap().size(), 256);
    assert_eq!(Front::new(Area::page(), Control).unwrap().size(), 128);
}

#[test]
fn a_packet_and_its_extra_information_share_a_ring() {
    let area = Area::page();
    let mut front = Front::new(area.clone(), Tx).unwrap();
    let request = TxRequest {
        gref: 0x1234_5678,
        offset: 0x9abc,
        flags: txf::EXTRA_INFO,
        id: 0xdef0,
        size: 0x1357,
    };
    let extra = Extra {
        info: Info::Gso {
            size: 1448,
            kind: gso::TCPV6,
            features: 0,
        },
        more: true,
    };
    assert_eq!(front.next_request(), 0);
    front.push(&request.into()).unwrap();
    front.push(&extra.into()).unwrap();
    assert_eq!((front.next_request(), front.next_response()), (2, 0));
    let _ = front.publish();
    let mut back = Back::attach(area, Tx).unwrap();
    assert_eq!(back.pop().unwrap().unwrap().request(), request);
    assert_eq!(back.pop().unwrap().unwrap().extra(), extra);
    for status in [-1, 1] {
        back.push(&TxResponse { id: 7, status }).unwrap();
    }
    let _ = back.publish();
    let response = TxResponse { id: 7, status: -1 };
    assert_eq!(front.pop(), Ok(Some(response)));
    assert_eq!(front.next_response(), 1);
}

#[test]
fn extra_information_there_and_back() {
    for info in [
        Info::Gso {
            size: 1448,
            kind: 1,
            features: 0x8001,
        },
        Info::McastAdd([1, 2, 3, 4, 5, 6]),
        Info::McastDel([1, 2, 3, 4, 5, 6]),
        Info::Hash {
            kind: 3,
            algorithm: 1,
            value: 0x1234_5678,
        },
        Info::Xdp { headroom: 256 },
        Info::Other(0),
        Info::Other(6),
    ] {
        for more in [false, true] {
            let extra = Extra { info, more };
            assert_eq!(Extra::decode(&extra.encode()), extra);
            assert_eq!(TxSlot::from(extra).extra(), extra);
            assert_eq!(RxSlot::from(extra).extra(), extra);
        }
    }
    let hash = Extra {
        info: Info::Hash {
            kind: 1,
            algorithm: 2,
            value: 0x0403_0201,
        },
        more: false,
    };
    assert_eq!(hash.encode(), [4, 0, 1, 2, 1, 2, 3, 4]);
}

#[test]
fn a_receive_response() {
    let response = RxResponse {
        id: 1,
        offset: 0x102,
        flags: 3,
        status: -2,
    };
    let slot = RxSlot::from(response);
    assert_eq!(slot, RxSlot::from([1, 0, 2, 1, 3, 0, 0xfe, 0xff]));
    assert_eq!(slot.response(), response);
}
