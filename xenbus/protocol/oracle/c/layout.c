// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Where the fields of blkif.h are. build.rs reads the lines that begin with "->". */
#include "xen.h"

#define ENTRY(name, value, size) \
	__asm__ volatile("\n->" name " %c0 %c1" : : "i" (value), "i" (size))
#define SIZE(type) \
	ENTRY(#type, 0, sizeof(struct type))
#define FIELD(type, field) \
	ENTRY(#type "." #field, offsetof(struct type, field), sizeof(((struct type *)0)->field))
#define VALUE(name) \
	ENTRY(#name, (long)(name), 0)

void layout(void);

void layout(void)
{
	SIZE(blkif_request_segment);
	FIELD(blkif_request_segment, gref);
	FIELD(blkif_request_segment, first_sect);
	FIELD(blkif_request_segment, last_sect);

	SIZE(blkif_request);
	FIELD(blkif_request, operation);
	FIELD(blkif_request, nr_segments);
	FIELD(blkif_request, handle);
	FIELD(blkif_request, id);
	FIELD(blkif_request, sector_number);
	FIELD(blkif_request, seg);

	SIZE(blkif_request_discard);
	FIELD(blkif_request_discard, operation);
	FIELD(blkif_request_discard, flag);
	FIELD(blkif_request_discard, handle);
	FIELD(blkif_request_discard, id);
	FIELD(blkif_request_discard, sector_number);
	FIELD(blkif_request_discard, nr_sectors);

	SIZE(blkif_request_indirect);
	FIELD(blkif_request_indirect, operation);
	FIELD(blkif_request_indirect, indirect_op);
	FIELD(blkif_request_indirect, nr_segments);
	FIELD(blkif_request_indirect, id);
	FIELD(blkif_request_indirect, sector_number);
	FIELD(blkif_request_indirect, handle);
	FIELD(blkif_request_indirect, indirect_grefs);

	SIZE(blkif_response);
	FIELD(blkif_response, id);
	FIELD(blkif_response, operation);
	FIELD(blkif_response, status);

	FIELD(blkif_sring, req_prod);
	FIELD(blkif_sring, req_event);
	FIELD(blkif_sring, rsp_prod);
	FIELD(blkif_sring, rsp_event);
	FIELD(blkif_sring, ring[0]);
	ENTRY("ring_size_1", __CONST_RING_SIZE(blkif, 4096), 0);
	ENTRY("ring_size_16", __CONST_RING_SIZE(blkif, 65536), 0);

	VALUE(BLKIF_OP_READ);
	VALUE(BLKIF_OP_WRITE);
	VALUE(BLKIF_OP_WRITE_BARRIER);
	VALUE(BLKIF_OP_FLUSH_DISKCACHE);
	VALUE(BLKIF_OP_DISCARD);
	VALUE(BLKIF_OP_INDIRECT);
	VALUE(BLKIF_RSP_OKAY);
	VALUE(BLKIF_RSP_ERROR);
	VALUE(BLKIF_RSP_EOPNOTSUPP);
	VALUE(BLKIF_MAX_SEGMENTS_PER_REQUEST);
	VALUE(BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST);
	VALUE(BLKIF_DISCARD_SECURE);
	VALUE(VDISK_CDROM);
	VALUE(VDISK_REMOVABLE);
	VALUE(VDISK_READONLY);

	VALUE(XenbusStateUnknown);
	VALUE(XenbusStateInitialising);
	VALUE(XenbusStateInitWait);
	VALUE(XenbusStateInitialised);
	VALUE(XenbusStateConnected);
	VALUE(XenbusStateClosing);
	VALUE(XenbusStateClosed);
	VALUE(XenbusStateReconfiguring);
	VALUE(XenbusStateReconfigured);
}
