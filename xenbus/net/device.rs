// SPDX-License-Identifier: GPL-2.0

//! A network device.
//!
//! `device/registration.rs` has its registration, `device/operations.rs` what a driver implements.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

mod operations;
mod registration;

pub use self::{
    operations::{Operations, Stats},
    registration::{Files, Registration, Settings},
};

pub(super) use self::registration::data;

use super::skb::{SkBuff, SkBuffMut};
use crate::bindings;
use core::{mem::ManuallyDrop, ops::BitOr, ptr::NonNull, sync::atomic::AtomicBool};
use kernel::{bindings::net_device, error::to_result, prelude::*, sync::Arc, types::NotThreadSafe};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// What a device can do with packets: a set.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u64);

impl Features {
    /// Takes packets of several fragments.
    pub const SG: Features = Features(1 << kernel::bindings::NETIF_F_SG_BIT);
    /// Takes packets of lists of packets.
    pub const FRAGLIST: Features = Features(1 << kernel::bindings::NETIF_F_FRAGLIST_BIT);
    /// Fills in checksums of TCP and UDP over IPv4.
    pub const IP_CSUM: Features = Features(1 << kernel::bindings::NETIF_F_IP_CSUM_BIT);
    /// Fills in checksums of TCP and UDP over IPv6.
    pub const IPV6_CSUM: Features = Features(1 << kernel::bindings::NETIF_F_IPV6_CSUM_BIT);
    /// Checks checksums of what it receives.
    pub const RXCSUM: Features = Features(1 << kernel::bindings::NETIF_F_RXCSUM_BIT);
    /// Cuts TCP over IPv4 into segments.
    pub const TSO: Features = Features(1 << kernel::bindings::NETIF_F_TSO_BIT);
    /// Cuts TCP over IPv6 into segments.
    pub const TSO6: Features = Features(1 << kernel::bindings::NETIF_F_TSO6_BIT);
    /// Takes packets to segment whose headers nobody has checked.
    pub const GSO_ROBUST: Features = Features(1 << kernel::bindings::NETIF_F_GSO_ROBUST_BIT);

    /// Whether all of `other` are there.
    #[inline]
    pub fn has(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without `other`, unless `keep`.
    #[must_use]
    pub fn without_unless(self, keep: bool, other: Features) -> Self {
        if keep {
            self
        } else {
            Features(self.0 & !other.0)
        }
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Features(self.0 | other.0)
    }
}

/// The lock under which devices are configured; it is not held any more when this is dropped.
pub struct Rtnl(NotThreadSafe);

/// Takes the lock under which devices are configured. Sleeps.
///
/// It comes before every lock that [`Operations::open`], [`Operations::stop`] and the like take.
pub fn rtnl() -> Rtnl {
    // SAFETY: In process context; unlocked by the drop, by the same task.
    unsafe { bindings::net_helper_rtnl_lock() };
    Rtnl(NotThreadSafe)
}

impl Rtnl {
    /// For a callback that is called with the lock held; it is not to be unlocked.
    fn held() -> ManuallyDrop<Self> {
        ManuallyDrop::new(Rtnl(NotThreadSafe))
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        // SAFETY: Locked by `rtnl`.
        unsafe { bindings::net_helper_rtnl_unlock() };
    }
}

/// Whether messages about packets are to be left out, since there were many of late.
pub fn is_rate_limited() -> bool {
    // SAFETY: In any context.
    unsafe { !bindings::net_helper_ratelimit() }
}

/// Runs `f` while this CPU runs no soft interrupt: for a lock that is also taken in one. Not with
/// interrupts off.
pub fn without_softirqs<R>(f: impl FnOnce() -> R) -> R {
    struct Enable(NotThreadSafe);

    impl Drop for Enable {
        fn drop(&mut self) {
            // SAFETY: Disabled below, on this CPU.
            unsafe { bindings::net_helper_bh_enable() };
        }
    }

    // SAFETY: Undone by the drop.
    unsafe { bindings::net_helper_bh_disable() };
    let _enable = Enable(NotThreadSafe);
    f()
}

/// An Ethernet device, registered or not.
///
/// Dropping it frees it.
///
/// # Invariants
///
/// The pointer is to a device that `alloc_netdev_mqs` has made, which is not registered any more
/// when this is dropped.
pub struct NetDev {
    dev: NonNull<net_device>,
    /// It has been registered, or that has been tried.
    used: AtomicBool,
}

// SAFETY: What is offered is synchronized by the network stack, or is a word that is read.
unsafe impl Send for NetDev {}

// SAFETY: As above.
unsafe impl Sync for NetDev {}

impl NetDev {
    /// A device with at most `queues` queues each way, at least 1. Its name is `name`, of at most 15
    /// bytes, in which `%d` stands for the first number that is free. Sleeps.
    pub fn new(name: &CStr, queues: u32) -> Result<Arc<Self>> {
        if name.to_bytes_with_nul().len() > kernel::bindings::IFNAMSIZ as usize || queues == 0 {
            return Err(EINVAL);
        }
        let enumerated = name.to_bytes().contains(&b'%');
        // SAFETY: A C string, which is copied.
        let dev = unsafe { bindings::net_helper_alloc(name.as_char_ptr(), enumerated, queues) };
        let dev = NonNull::new(dev).ok_or(ENOMEM)?;
        // INVARIANT: Just made.
        let dev = NetDev {
            dev,
            used: AtomicBool::new(false),
        };
        Ok(Arc::new(dev, GFP_KERNEL)?)
    }

    pub(super) fn as_raw(&self) -> *mut net_device {
        self.dev.as_ptr()
    }

    /// Calls `f` with the name, which an administrator may change.
    pub fn with_name<R>(&self, f: impl FnOnce(&CStr) -> R) -> R {
        let _rtnl = rtnl();
        // SAFETY: Of 16 bytes with a NUL, and constant under the lock.
        f(unsafe { CStr::from_char_ptr(bindings::net_helper_name(self.as_raw())) })
    }

    /// Whether there is a link. In any context.
    #[inline]
    pub fn has_carrier(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_carrier_ok(self.as_raw()) }
    }

    /// Says whether there is a link. In any context.
    pub fn set_carrier(&self, carrier: bool) {
        // SAFETY: By the type invariant.
        unsafe {
            if carrier {
                bindings::netif_carrier_on(self.as_raw());
            } else {
                bindings::netif_carrier_off(self.as_raw());
            }
        }
    }

    /// Whether the device has been opened and not yet been stopped. Does not change while the lock is
    /// held.
    pub fn is_running(&self, _rtnl: &Rtnl) -> bool {
        self.is_up()
    }

    /// Whether the device has been opened and not yet been stopped, as of now. In any context.
    #[inline]
    pub fn is_up(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_is_running(self.as_raw()) }
    }

    /// Sets how many queues are used each way: at least one and at most as many as there are.
    pub fn set_queues(&self, queues: u32, _rtnl: &Rtnl) -> Result {
        // SAFETY: By the type invariant, and with the lock held.
        to_result(unsafe { bindings::net_helper_set_queues(self.as_raw(), queues) })
    }

    /// How many queues are used.
    #[inline]
    pub fn queues(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_tx_queues(self.as_raw()) }
    }

    /// The stack gives nothing more to queue `queue` until it is woken. In any context.
    #[inline]
    pub fn stop_queue(&self, queue: u32) {
        // SAFETY: By the type invariant; a queue that there is not is left out.
        unsafe { bindings::net_helper_tx_stop(self.as_raw(), queue) };
    }

    /// The stack may give packets to queue `queue`. In any context.
    #[inline]
    pub fn wake_queue(&self, queue: u32) {
        // SAFETY: As above.
        unsafe { bindings::net_helper_tx_wake(self.as_raw(), queue) };
    }

    /// Whether queue `queue` has been stopped and not woken. In any context.
    #[inline]
    pub fn is_queue_stopped(&self, queue: u32) -> bool {
        // SAFETY: As above.
        unsafe { bindings::net_helper_tx_stopped(self.as_raw(), queue) }
    }

    /// As [`Self::wake_queue`], for all of them. In any context.
    pub fn wake_all_queues(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_tx_wake_all(self.as_raw()) };
    }

    /// As [`Self::stop_queue`], for all of them. In any context.
    pub fn stop_all_queues(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_tx_stop_all(self.as_raw()) };
    }

    /// As [`Self::wake_queue`], for all of them, in [`Operations::open`].
    pub fn start_all_queues(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_tx_start_all(self.as_raw()) };
    }

    /// The device is not there for the stack until [`Self::attach`]: it is given no packet any more
    /// when this has returned. Without effect on one that is not registered. Sleeps.
    pub fn detach(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_detach(self.as_raw()) };
    }

    /// Undoes [`Self::detach`].
    pub fn attach(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::netif_device_attach(self.as_raw()) };
    }

    /// The queue that the stack would choose for a packet, below [`Self::queues`].
    #[inline]
    pub fn pick_queue(&self, skb: SkBuffMut<'_>) -> u16 {
        // SAFETY: By the type invariant, and that of the packet.
        unsafe { bindings::net_helper_pick_queue(self.as_raw(), skb.as_raw()) }
    }

    /// The features that are in use.
    #[inline]
    pub fn features(&self) -> Features {
        // SAFETY: By the type invariant.
        Features(unsafe { bindings::net_helper_features(self.as_raw()) })
    }

    /// Has [`Operations::fix_features`] asked again. Takes the lock of [`rtnl`].
    pub fn update_features(&self) {
        // SAFETY: By the type invariant; the lock is not held, as nobody can do so who has no other
        // way to a guard than by `rtnl`.
        unsafe { bindings::net_helper_update_features(self.as_raw()) };
    }

    /// The largest packet without its Ethernet header, in bytes.
    pub fn mtu(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_mtu(self.as_raw()) }
    }

    /// Sets that, of a device that does not have to be asked.
    pub fn set_mtu(&self, mtu: u32, _rtnl: &Rtnl) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_set_mtu(self.as_raw(), mtu) };
    }

    /// The address.
    pub fn mac(&self) -> Mac {
        let mut mac = [0; 6];
        // SAFETY: By the type invariant; there is room for an address.
        unsafe { bindings::net_helper_get_mac(self.as_raw(), mac.as_mut_ptr()) };
        mac
    }

    /// Sets the address. Takes the lock of [`rtnl`].
    pub fn set_mac(&self, mac: &Mac) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_set_mac(self.as_raw(), mac.as_ptr()) };
    }

    /// Tells the neighbours where the device's addresses are now. A link that is new is used for that.
    /// Takes the lock of [`rtnl`].
    pub fn notify_peers(&self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::net_helper_notify_peers(self.as_raw()) };
    }

    /// Gives the stack a packet that has been made ready by [`SkBuff::receive_on`] for this device;
    /// any other is dropped. In soft interrupt context.
    #[inline]
    pub fn receive(&self, skb: SkBuff) {
        if skb.is_received_on(self) {
            // SAFETY: The packet is the stack's from here on; its device is this one.
            unsafe { bindings::netif_receive_skb(skb.into_raw()) };
        }
    }
}

impl Drop for NetDev {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::free_netdev(self.as_raw()) };
    }
}
