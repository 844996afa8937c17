// SPDX-License-Identifier: GPL-2.0

//! What `ethtool` is told of a device: its link, its speed, its driver's own statistics.
//!
//! C header: [`include/linux/ethtool.h`](srctree/include/linux/ethtool.h)

use super::device::{data, Operations};
use core::{marker::PhantomData, mem::MaybeUninit};
use kernel::{
    bindings::{self, net_device},
    ffi::{c_int, c_uint},
};

/// Bytes of a name.
const NAME_LEN: usize = bindings::ETH_GSTRING_LEN as usize;

/// The speed of a device that has none of its own, in Mb/s.
const SPEED: u32 = bindings::SPEED_10000;

/// The C callbacks of a driver.
pub(super) struct Adapter<T>(PhantomData<T>);

impl<T: Operations> Adapter<T> {
    pub(super) const OPS: bindings::ethtool_ops = Self::ops();

    const fn ops() -> bindings::ethtool_ops {
        // SAFETY: All zero is a valid table, of optional functions and flags.
        let mut ops: bindings::ethtool_ops = unsafe { MaybeUninit::zeroed().assume_init() };
        ops.get_link = Some(bindings::ethtool_op_get_link);
        ops.get_ts_info = Some(bindings::ethtool_op_get_ts_info);
        ops.get_link_ksettings = Some(Self::get_link_ksettings);
        ops.get_sset_count = Some(Self::get_sset_count);
        ops.get_strings = Some(Self::get_strings);
        ops.get_ethtool_stats = Some(Self::get_ethtool_stats);
        ops
    }

    unsafe extern "C" fn get_link_ksettings(
        _dev: *mut net_device,
        to: *mut bindings::ethtool_link_ksettings,
    ) -> c_int {
        // SAFETY: Ours for the call, and zeroed.
        let base = unsafe { &mut (*to).base };
        base.speed = SPEED;
        base.duplex = bindings::DUPLEX_FULL as u8;
        base.port = bindings::PORT_OTHER as u8;
        base.autoneg = bindings::AUTONEG_DISABLE as u8;
        0
    }

    unsafe extern "C" fn get_sset_count(_dev: *mut net_device, set: c_int) -> c_int {
        if set as c_uint == bindings::ethtool_stringset_ETH_SS_STATS {
            T::STATISTICS.len() as c_int
        } else {
            -(bindings::EOPNOTSUPP as c_int)
        }
    }

    unsafe extern "C" fn get_strings(_dev: *mut net_device, set: u32, to: *mut u8) {
        if set != bindings::ethtool_stringset_ETH_SS_STATS {
            return;
        }
        for (i, name) in T::STATISTICS.iter().enumerate() {
            let bytes = name.to_bytes();
            let len = bytes.len().min(NAME_LEN - 1);
            // SAFETY: There is room, zeroed, for as many names as `get_sset_count` has said.
            unsafe { to.add(i * NAME_LEN).copy_from(bytes.as_ptr(), len) };
        }
    }

    unsafe extern "C" fn get_ethtool_stats(
        dev: *mut net_device,
        _stats: *mut bindings::ethtool_stats,
        to: *mut u64,
    ) {
        // SAFETY: Called by the stack.
        let data = unsafe { data::<T>(dev) };
        for i in 0..T::STATISTICS.len() {
            // SAFETY: There is room for as many values as `get_sset_count` has said.
            unsafe { to.add(i).write(data.statistic(i)) };
        }
    }
}
