// SPDX-License-Identifier: GPL-2.0

//! A network device, its registration, and what a driver implements.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::{
    ethtool,
    skb::{SkBuff, SkBuffMut},
    xdp::{self, ExtAck, Program, XdpFrames},
};
use crate::{
    bindings::{self, xdp_frame},
    device::Device,
};
use core::{
    marker::PhantomData,
    mem::{ManuallyDrop, MaybeUninit},
    ops::BitOr,
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};
use kernel::{
    bindings::{net_device, sk_buff},
    error::{from_result, to_result},
    ffi::{c_int, c_uint, c_void},
    prelude::*,
    sync::Arc,
    types::NotThreadSafe,
};

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

/// What a driver does with its device.
///
/// `open`, `stop`, `fix_features`, `set_features`, `change_mtu` and `set_program` are called with the
/// lock of [`rtnl`] held.
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

/// What a device is like when it is registered.
pub struct Settings {
    /// Used to begin with.
    pub features: Features,
    /// May be switched on and off.
    pub hw_features: Features,
    /// The largest MTU, in bytes.
    pub max_mtu: u32,
    /// The address.
    pub mac: Mac,
    /// Further files in the device's directory in sysfs.
    pub files: Option<Files>,
}

/// A group of files in a device's directory in sysfs.
#[derive(Clone, Copy)]
pub struct Files(NonNull<kernel::bindings::attribute_group>);

impl Files {
    /// # Safety
    ///
    /// The group is a valid one and stays so, and it may be used with any device.
    pub const unsafe fn from_raw(group: NonNull<kernel::bindings::attribute_group>) -> Self {
        Files(group)
    }
}

/// A device that the rest of the system can see. Dropping it takes it away, which waits until nobody
/// uses it; sleeps, and takes the lock of [`rtnl`].
///
/// # Invariants
///
/// The device is registered; its private data points to `_data`.
pub struct Registration<T: Operations> {
    dev: Arc<NetDev>,
    _data: Arc<T>,
}

impl<T: Operations> Registration<T> {
    /// Registers `dev` as a child of `parent`, without a link; from here on `data` is called. Sleeps,
    /// and takes the lock of [`rtnl`].
    ///
    /// # Errors
    ///
    /// `EEXIST` when there is a device of that name; `EBUSY` when this is not the first time for this
    /// device.
    pub fn new(
        dev: &Arc<NetDev>,
        data: &Arc<T>,
        settings: &Settings,
        parent: &Device,
    ) -> Result<Self> {
        if dev.used.swap(true, Relaxed) {
            return Err(EBUSY);
        }
        let setup = bindings::net_helper_setup {
            ops: &Adapter::<T>::OPS,
            ethtool: &ethtool::Adapter::<T>::OPS,
            parent: parent.raw_dev(),
            group: settings
                .files
                .map_or(core::ptr::null(), |files| files.0.as_ptr().cast_const()),
            data: Arc::as_ptr(data).cast_mut().cast::<c_void>(),
            features: settings.features.0,
            hw_features: settings.hw_features.0,
            min_mtu: 68,
            max_mtu: settings.max_mtu,
            runs_programs: T::HAS_SET_PROGRAM,
            sends_frames: T::HAS_SEND_FRAMES,
            mac: settings.mac,
        };
        // SAFETY: The device is not registered, so nobody else looks at it; the tables are static;
        // the data lives until it is not registered any more.
        unsafe { bindings::net_helper_set_up(dev.as_raw(), &setup) };
        // SAFETY: The device has been set up.
        to_result(unsafe { bindings::register_netdev(dev.as_raw()) })?;
        // INVARIANT: As was just done.
        Ok(Registration {
            dev: dev.clone(),
            _data: data.clone(),
        })
    }

    /// The device.
    pub fn dev(&self) -> &Arc<NetDev> {
        &self.dev
    }

    /// Makes it a child of another device, or of none. Nobody else may change the children of either
    /// meanwhile. Sleeps, and takes the lock of [`rtnl`].
    pub fn set_parent(&self, parent: Option<&Device>) -> Result {
        let parent = parent.map_or(core::ptr::null_mut(), Device::raw_dev);
        // SAFETY: Registered, by the type invariant; the parent is live, or there is none.
        to_result(unsafe { bindings::net_helper_set_parent(self.dev.as_raw(), parent) })
    }
}

impl<T: Operations> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: Registered, by the type invariant.
        unsafe { bindings::unregister_netdev(self.dev.as_raw()) };
    }
}

/// The data of a device in one of its callbacks.
///
/// # Safety
///
/// The stack has called one of the operations of `T` with `dev`.
#[inline]
pub(super) unsafe fn data<'a, T: Operations>(dev: *mut net_device) -> &'a T {
    // SAFETY: Operations are called while the device is registered only, which holds the data.
    unsafe { &*bindings::net_helper_data(dev).cast_const().cast::<T>() }
}

/// The C callbacks of a driver.
struct Adapter<T>(PhantomData<T>);

impl<T: Operations> Adapter<T> {
    const OPS: bindings::net_device_ops = Self::ops();

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
