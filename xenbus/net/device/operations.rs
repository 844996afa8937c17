// SPDX-License-Identifier: GPL-2.0

//! What a driver does with its device, and how the stack calls it.

use super::{registration::data, Features, Rtnl};
use crate::{
    bindings::{self, xdp_frame},
    net::{
        skb::{SkBuff, SkBuffMut},
        xdp::{self, ExtAck, Program, XdpFrames},
    },
};
use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};
use kernel::{
    bindings::{net_device, sk_buff},
    error::from_result,
    ffi::{c_int, c_uint},
    prelude::*,
};

/// What a device has sent and received.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Stats {
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// What a driver does with its device.
///
/// `open`, `stop`, `fix_features`, `set_features`, `change_mtu` and `set_program` are called with the
/// lock of [`rtnl`](super::rtnl) held.
#[vtable]
pub trait Operations: Sized + Send + Sync + 'static {
    /// The names of the driver's own statistics, of at most 31 bytes.
    const STATISTICS: &'static [&'static CStr] = &[];

    /// The device is to send and to receive. Sleeps.
    fn open(&self, rtnl: &Rtnl) -> Result;

    /// The device is not to send and receive any more. Sleeps.
    fn stop(&self, rtnl: &Rtnl);

    /// A packet is to be sent, by the queue that [`SkBuff::queue`] says, which is not stopped. In any
    /// context but that of a hard interrupt; for one queue, by one CPU at a time.
    ///
    /// A packet that cannot be sent is dropped.
    fn start_xmit(&self, skb: SkBuff);

    /// The queue by which a packet is to be sent, below [`NetDev::queues`].
    fn select_queue(&self, _skb: SkBuffMut<'_>) -> u16 {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// What has been sent and received.
    fn stats(&self) -> Stats;

    /// Of `features`, those that can be used now.
    fn fix_features(&self, _features: Features) -> Features {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// From now on `features` are in use.
    fn set_features(&self, _features: Features, _rtnl: &Rtnl) -> Result {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// Whether the largest packet may be of `mtu` bytes, without its Ethernet header.
    fn change_mtu(&self, _mtu: u32) -> Result {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// From now on this program, or none, is to be run on what is received. Sleeps.
    ///
    /// # Errors
    ///
    /// Why not, which is best told to `_ack` as well; then all is as it was. That no program is to be
    /// run must work.
    fn set_program(&self, _program: Option<&Program>, _ack: &mut ExtAck, _rtnl: &Rtnl) -> Result {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// Frames are to be sent. With soft interrupts off, by several CPUs at the same time.
    fn send_frames(&self, _frames: &mut XdpFrames<'_>) {
        kernel::build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// The value of each of [`Self::STATISTICS`].
    fn statistic(&self, _index: usize) -> u64 {
        0
    }
}

/// The C callbacks of a driver.
pub(super) struct Adapter<T>(PhantomData<T>);

impl<T: Operations> Adapter<T> {
    pub(super) const OPS: bindings::net_device_ops = Self::ops();

    const fn ops() -> bindings::net_device_ops {
        // SAFETY: All zero is a valid table, of optional functions.
        let mut ops: bindings::net_device_ops = unsafe { MaybeUninit::zeroed().assume_init() };
        ops.ndo_open = Some(Self::open);
        ops.ndo_stop = Some(Self::stop);
        ops.ndo_start_xmit = Some(Self::start_xmit);
        ops.ndo_get_stats64 = Some(Self::get_stats64);
        ops.ndo_set_mac_address = Some(bindings::eth_mac_addr);
        ops.ndo_validate_addr = Some(bindings::eth_validate_addr);
        if T::HAS_SELECT_QUEUE {
            ops.ndo_select_queue = Some(Self::select_queue);
        }
        if T::HAS_FIX_FEATURES {
            ops.ndo_fix_features = Some(Self::fix_features);
        }
        if T::HAS_SET_FEATURES {
            ops.ndo_set_features = Some(Self::set_features);
        }
        if T::HAS_CHANGE_MTU {
            ops.ndo_change_mtu = Some(Self::change_mtu);
        }
        if T::HAS_SET_PROGRAM {
            ops.ndo_bpf = Some(Self::bpf);
        }
        if T::HAS_SEND_FRAMES {
            ops.ndo_xdp_xmit = Some(Self::xdp_xmit);
        }
        ops
    }

    unsafe extern "C" fn open(dev: *mut net_device) -> c_int {
        // SAFETY: Called by the stack.
        let data = unsafe { data::<T>(dev) };
        from_result(|| data.open(&Rtnl::held()).map(|()| 0))
    }

    unsafe extern "C" fn stop(dev: *mut net_device) -> c_int {
        // SAFETY: Called by the stack.
        unsafe { data::<T>(dev) }.stop(&Rtnl::held());
        0
    }

    unsafe extern "C" fn start_xmit(
        skb: *mut sk_buff,
        dev: *mut net_device,
    ) -> bindings::netdev_tx_t {
        // SAFETY: Called by the stack, which gives the packet away.
        unsafe { data::<T>(dev).start_xmit(SkBuff::from_raw(NonNull::new_unchecked(skb))) };
        bindings::netdev_tx_NETDEV_TX_OK
    }

    unsafe extern "C" fn select_queue(
        dev: *mut net_device,
        skb: *mut sk_buff,
        _below: *mut net_device,
    ) -> u16 {
        // SAFETY: Called by the stack, which lends the packet.
        let skb = unsafe { SkBuffMut::from_raw(NonNull::new_unchecked(skb)) };
        // SAFETY: Called by the stack.
        unsafe { data::<T>(dev) }.select_queue(skb)
    }

    unsafe extern "C" fn get_stats64(dev: *mut net_device, to: *mut bindings::rtnl_link_stats64) {
        // SAFETY: Called by the stack.
        let stats = unsafe { data::<T>(dev) }.stats();
        // SAFETY: The stack has zeroed it, and it is ours for the call.
        let to = unsafe { &mut *to };
        to.rx_packets = stats.rx_packets;
        to.rx_bytes = stats.rx_bytes;
        to.rx_errors = stats.rx_errors;
        to.rx_dropped = stats.rx_dropped;
        to.tx_packets = stats.tx_packets;
        to.tx_bytes = stats.tx_bytes;
        to.tx_errors = stats.tx_errors;
        to.tx_dropped = stats.tx_dropped;
    }

    unsafe extern "C" fn fix_features(dev: *mut net_device, features: u64) -> u64 {
        // SAFETY: Called by the stack.
        unsafe { data::<T>(dev) }.fix_features(Features(features)).0
    }

    unsafe extern "C" fn set_features(dev: *mut net_device, features: u64) -> c_int {
        // SAFETY: Called by the stack.
        let data = unsafe { data::<T>(dev) };
        from_result(|| {
            data.set_features(Features(features), &Rtnl::held())
                .map(|()| 0)
        })
    }

    unsafe extern "C" fn bpf(dev: *mut net_device, bpf: *mut bindings::netdev_bpf) -> c_int {
        // SAFETY: Called by the stack.
        let data = unsafe { data::<T>(dev) };
        from_result(|| {
            // SAFETY: What the stack has called us with is valid.
            if !unsafe { bindings::net_helper_bpf_is_program(bpf) } {
                return Err(EINVAL);
            }
            // SAFETY: As above; it is about a program.
            let (program, mut ack) = unsafe {
                (
                    NonNull::new(bindings::net_helper_bpf_program(bpf)),
                    ExtAck::from_raw(bindings::net_helper_bpf_extack(bpf)),
                )
            };
            // SAFETY: The stack's reference, which is ours when we agree.
            let program = program.map(|program| unsafe { Program::from_raw(program) });
            let result = data.set_program(program.as_ref(), &mut ack, &Rtnl::held());
            if result.is_err() {
                // It stays the stack's.
                program.map(Program::into_raw);
            }
            result.map(|()| 0)
        })
    }

    unsafe extern "C" fn xdp_xmit(
        dev: *mut net_device,
        count: c_int,
        frames: *mut *mut xdp_frame,
        flags: u32,
    ) -> c_int {
        // SAFETY: Called by the stack.
        let data = unsafe { data::<T>(dev) };
        // SAFETY: By the stack, with as many frames; they are in one piece, since the device has not
        // said that it takes others. Those that are sent are ours.
        from_result(|| unsafe {
            xdp::xmit(count, frames, flags, |frames| data.send_frames(frames))
        })
    }

    unsafe extern "C" fn change_mtu(dev: *mut net_device, mtu: c_int) -> c_int {
        // SAFETY: Called by the stack.
        let data = unsafe { data::<T>(dev) };
        from_result(|| {
            let mtu = c_uint::try_from(mtu).map_err(|_| EINVAL)?;
            data.change_mtu(mtu)?;
            // SAFETY: Within `ndo_change_mtu`.
            unsafe { bindings::net_helper_set_mtu(dev, mtu) };
            Ok(0)
        })
    }
}
