/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* Xen's headers as an oracle: in the ABI of the compiler, or packed to that of i386. */
#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00041300

#define xen_mb()  __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)

#ifdef __cplusplus
#error "C only"
#endif

static inline void *oracle_memset(void *to, int byte, size_t n)
{
	unsigned char *p = to;

	while (n--)
		*p++ = byte;
	return to;
}
#define memset oracle_memset

#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/io/ring.h>
#ifdef PACKED
#pragma pack(push, 4)
#endif
#include <xen/io/blkif.h>
#ifdef PACKED
#pragma pack(pop)
#endif
#include <xen/io/netif.h>
#include <xen/io/xenbus.h>
