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

include!("bindings_generated.rs");
