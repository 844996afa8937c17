// SPDX-License-Identifier: GPL-2.0

//! What bindgen makes of Xen's kernel headers and of `helpers.h`; see Kbuild.
//!
//! Types that are not Xen's own come from [`kernel::bindings`].

#![allow(
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::ptr_as_ptr,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::bindings::*;
use kernel::ffi;

/// Types that `net_device_ops` names, and that nobody here looks into.
macro_rules! opaque {
    ($($name:ident),+ $(,)?) => {$(
        #[repr(C)]
        pub struct $name([u8; 0]);
    )+};
}

opaque! {
    ifla_vf_guid, ifla_vf_info, ifla_vf_stats, ip_tunnel_parm_kern, ndmsg, neigh_parms, neighbour,
    net_device_path, net_device_path_ctx, net_device_stats, net_shaper_ops, netdev_bpf,
    netdev_fcoe_hbainfo, netdev_hw_addr_list, netdev_phys_item_id, xdp_txq_info,
}
pub type tc_setup_type = ffi::c_uint;

include!("bindings_generated.rs");
