// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The hash that netif.h comes with, as a function that Rust can call. */
#define XEN_NETIF_DEFINE_TOEPLITZ
#include "xen.h"

uint32_t oracle_toeplitz(const uint8_t *key, unsigned int keylen, const uint8_t *buf,
			 unsigned int buflen);

uint32_t oracle_toeplitz(const uint8_t *key, unsigned int keylen, const uint8_t *buf,
			 unsigned int buflen)
{
	return xen_netif_toeplitz_hash(key, keylen, buf, buflen);
}
