// SPDX-License-Identifier: GPL-2.0

//! The registration of a device.

use super::{
    operations::{Adapter, Operations},
    Features, Mac, NetDev,
};
use crate::{bindings, device::Device, net::ethtool};
use core::{ptr::NonNull, sync::atomic::Ordering::Relaxed};
use kernel::{bindings::net_device, error::to_result, ffi::c_void, prelude::*, sync::Arc};

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
/// uses it; sleeps, and takes the lock of [`rtnl`](super::rtnl).
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
    /// and takes the lock of [`rtnl`](super::rtnl).
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
    /// meanwhile. Sleeps, and takes the lock of [`rtnl`](super::rtnl).
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
pub(in crate::net) unsafe fn data<'a, T: Operations>(dev: *mut net_device) -> &'a T {
    // SAFETY: Operations are called while the device is registered only, which holds the data.
    unsafe { &*bindings::net_helper_data(dev).cast_const().cast::<T>() }
}
