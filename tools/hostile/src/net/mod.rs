// SPDX-License-Identifier: GPL-2.0
//! Both ends of a virtual network interface, misbehaving on purpose.
//!
//! | file | what it is |
//! |---|---|
//! | `ring.rs` | one end of a ring, which checks nothing |
//! | `frames.rs` | frames: ARP, ICMP echo, TCP, garbage |
//! | `front/` | the front end of a guest's user space and its scenarios |
//! | `back/` | the back end of dom0's user space and its scenarios |
//!
//! What lies in the rings is written by the `protocol` crate, whose layouts are compared with Xen's
//! headers; what must be wrong is made wrong in its values, or in the bytes.

pub(crate) mod back;
mod frames;
pub(crate) mod front;
mod ring;

use protocol::netif::{Extra, Info};

/// Extra information on segmentation.
fn gso_extra(size: u16, kind: u8) -> Extra {
    let features = 0;
    Extra {
        info: Info::Gso {
            size,
            kind,
            features,
        },
        more: false,
    }
}
