/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * What /dev/blktap and a program that attaches to a disk by it say to each other; the same as
 * xenbus/protocol/src/tap.rs, against which a test compares it. Documentation/blktap.md says how it
 * is used. All is little-endian.
 *
 * A tap has a number of queues, each with a region of memory that the program maps:
 *
 *	0			front-end ring: the guest's requests, the program answers
 *	BLKTAP_RING_BYTES	back-end ring: the program's requests, the disk answers
 *	2 * BLKTAP_RING_BYTES	data window
 *
 * A ring is one of xen/io/ring.h: a header of 64 bytes, struct blktap_ring, then BLKTAP_ENTRIES
 * entries of BLKTAP_ENTRY bytes, each a request, then its response. Entry i is at
 * 64 + i % BLKTAP_ENTRIES * BLKTAP_ENTRY.
 */

#ifndef _BLKTAP_H
#define _BLKTAP_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define BLKTAP_VERSION		1
#define BLKTAP_RING_BYTES	32768
#define BLKTAP_ENTRY		32
#define BLKTAP_ENTRIES		512
/* Data is counted in units of so many bytes. */
#define BLKTAP_SECTOR_SIZE	512
/* The largest data of one request, in sectors. */
#define BLKTAP_MAX_SECTORS	2048
/* In place of the offset of data that is not in the window. */
#define BLKTAP_NO_DATA		0xffffffffU

/* Operations, as in xen/io/blkif.h. */
#define BLKTAP_OP_READ		0
#define BLKTAP_OP_WRITE		1
#define BLKTAP_OP_FLUSH		3
#define BLKTAP_OP_DISCARD	5

/* Of a write: all that was answered before and the write itself are to be stable when answered. */
#define BLKTAP_FLAG_BARRIER	(1 << 0)
/* Of a discard: nobody can read the old content any more. */
#define BLKTAP_FLAG_SECURE	(1 << 1)
/* The data is the guest's own pages, and not the window's. */
#define BLKTAP_FLAG_GUEST	(1 << 2)
/* Of an answer to the guest: it is not done, the disk does it as if there were no tap. */
#define BLKTAP_FLAG_PASS	(1 << 3)

/* Status of a response, as in xen/io/blkif.h. */
#define BLKTAP_OKAY		0
#define BLKTAP_ERROR		(-1)
#define BLKTAP_EOPNOTSUPP	(-2)

/* The header of a ring. The indices run freely, from 0 to 2^32 - 1 and over. */
struct blktap_ring {
	__u32 req_prod;
	__u32 req_event;
	__u32 rsp_prod;
	__u32 rsp_event;
	__u8 reserved[48];
};

struct blktap_request {
	__u32 id;		/* the sender's own, comes back in the response */
	__u8 op;
	__u8 flags;
	__u8 reserved[2];
	__u64 sector;
	__u64 nr_sectors;	/* at most BLKTAP_MAX_SECTORS but for a discard; 0 for a flush */
	__u32 data;		/* where it begins in the window, in sectors; or BLKTAP_NO_DATA */
	__u32 guest;		/* with BLKTAP_FLAG_GUEST: the guest's request whose pages are used */
};

struct blktap_response {
	__u32 id;
	__u8 op;
	__u8 flags;		/* BLKTAP_FLAG_GUEST, BLKTAP_FLAG_PASS or 0 */
	__s16 status;
};

/* Which way requests go. */
#define BLKTAP_MODE_PASSTHROUGH		0
#define BLKTAP_MODE_INTERPOSE		1
#define BLKTAP_MODE_INTERCEPT_FE	2
#define BLKTAP_MODE_INTERCEPT_BE	3

/* What becomes of the guest's requests when the program goes. */
#define BLKTAP_POLICY_HOLD		0
#define BLKTAP_POLICY_PASSTHROUGH	1
#define BLKTAP_POLICY_ERROR		2

#define BLKTAP_STATE_IDLE		0
#define BLKTAP_STATE_CONNECTED		1
#define BLKTAP_STATE_GONE		2
#define BLKTAP_STATE_BROKEN		3

/* Of blktap_attach.flags. */
#define BLKTAP_ATTACH_WAIT		(1 << 0)
#define BLKTAP_ATTACH_NO_DATA		(1 << 1)
#define BLKTAP_ATTACH_POLLS		(1 << 2)	/* polls, or kicks, for what is to come */

struct blktap_attach {
	__u32 version;		/* in: BLKTAP_VERSION, out: the kernel's */
	__u32 domid;
	__u32 handle;
	__u32 flags;
	__u32 mode;
	__u32 policy;
	__u32 guest_bytes;	/* in: 0 for what is usual; out: how many there are */
	__u32 own_bytes;
	__u32 nr_queues;	/* out: 1 to 64 */
	__u32 reserved;
	__u64 region_bytes;	/* out: queue i is mapped at the offset i * region_bytes */
};

/* Of blktap_geometry.features. */
#define BLKTAP_GEOMETRY_FLUSH		(1 << 0)
#define BLKTAP_GEOMETRY_DISCARD		(1 << 1)
#define BLKTAP_GEOMETRY_SECURE_DISCARD	(1 << 2)
#define BLKTAP_GEOMETRY_READ_ONLY	(1 << 3)
#define BLKTAP_GEOMETRY_CDROM		(1 << 4)
#define BLKTAP_GEOMETRY_REMOVABLE	(1 << 5)

struct blktap_geometry {
	__u64 sectors;
	__u32 sector_size;
	__u32 physical_sector_size;
	__u32 features;
	__u32 discard_granularity;
};

/* Of blktap_info.flags: the tapped disk after this one; ENOENT after the last one. */
#define BLKTAP_INFO_NEXT		(1 << 0)

struct blktap_info {
	__u32 domid;
	__u32 handle;
	__u32 flags;
	__u32 state;
	__u32 mode;
	__u32 policy;
	__u32 pid;		/* the process that has attached, 0 for none */
	__u32 nr_queues;
	__u32 nr_connected;
	__u32 generation;
	struct blktap_geometry geometry;
};

#define BLKTAP_BUCKETS			24

struct blktap_queue_info {
	__u32 domid;		/* in, of a file that is not attached; the next too */
	__u32 handle;
	__u32 queue;		/* in */
	__u32 fe_in_flight;
	__u32 be_in_flight;
	__u32 fe_req_prod;
	__u32 fe_rsp_prod;
	__u32 be_req_prod;
	__u32 be_rsp_prod;
	__u32 refused;
	__u64 requests[4];	/* reads, writes, flushes, discards */
	__u64 sectors[2];	/* read, written */
	__u64 latency[BLKTAP_BUCKETS];	/* bucket i: less than 2^i us; the last one: the rest */
};

/* Of blktap_set.what. */
#define BLKTAP_SET_MODE			0
#define BLKTAP_SET_POLICY		1
#define BLKTAP_SET_REMOVE		2

struct blktap_set {
	__u32 domid;
	__u32 handle;
	__u32 what;
	__u32 value;
};

#define BLKTAP_TYPE			0xbc
#define BLKTAP_ATTACH		_IOWR(BLKTAP_TYPE, 0, struct blktap_attach)
#define BLKTAP_KICK		_IOW(BLKTAP_TYPE, 1, __u64)
#define BLKTAP_INFO		_IOWR(BLKTAP_TYPE, 2, struct blktap_info)
#define BLKTAP_QUEUE_INFO	_IOWR(BLKTAP_TYPE, 3, struct blktap_queue_info)
#define BLKTAP_SET		_IOW(BLKTAP_TYPE, 4, struct blktap_set)
#define BLKTAP_SET_GEOMETRY	_IOW(BLKTAP_TYPE, 5, struct blktap_geometry)

#endif
