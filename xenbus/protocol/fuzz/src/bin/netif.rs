// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Fuzzes [`protocol_fuzz::netif`].

#![no_main]
#![allow(unsafe_code, missing_docs)]

libfuzzer_sys::fuzz_target!(|input: &[u8]| protocol_fuzz::netif(input));
