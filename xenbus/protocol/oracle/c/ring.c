// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The macros of ring.h as functions that Rust can call, for the ABI named by the macro ABI.
 * Results: 1 for done or true, 0 for not.
 */
#include "xen.h"

#define PASTE2(a, b) a ## _ ## b
#define PASTE(a, b) PASTE2(a, b)
#define NAME(function) PASTE(ABI, function)

/* The same values as in the Rust side's `Plain`. */
struct plain {
	uint64_t id, sector, nr_sectors;
	uint32_t gref[11];
	uint16_t handle, nr_segments;
	uint8_t operation, indirect_op, flag;
	uint8_t first[11], last[11];
};

struct plain_response {
	uint64_t id;
	uint8_t operation;
	int16_t status;
};

void NAME(front_init)(blkif_front_ring_t *front, void *page, size_t size, RING_IDX start);
void NAME(back_attach)(blkif_back_ring_t *back, void *page, size_t size);
int NAME(front_push)(blkif_front_ring_t *front, const struct plain *from);
int NAME(front_publish)(blkif_front_ring_t *front);
int NAME(front_pop)(blkif_front_ring_t *front, struct plain_response *to);
int NAME(front_check)(blkif_front_ring_t *front);
unsigned int NAME(front_free)(const blkif_front_ring_t *front);
int NAME(front_overflow)(const blkif_front_ring_t *front);
int NAME(back_push)(blkif_back_ring_t *back, const struct plain_response *from);
int NAME(back_publish)(blkif_back_ring_t *back);
int NAME(back_pop)(blkif_back_ring_t *back, struct plain *to);
int NAME(back_check)(blkif_back_ring_t *back);
int NAME(back_overflow)(const blkif_back_ring_t *back);

static void put_request(blkif_request_t *to, const struct plain *from)
{
	unsigned int i;

	memset(to, 0, sizeof(*to));
	to->operation = from->operation;
	if (from->operation == BLKIF_OP_DISCARD) {
		blkif_request_discard_t *discard = (void *)to;

		discard->flag = from->flag;
		discard->handle = from->handle;
		discard->id = from->id;
		discard->sector_number = from->sector;
		discard->nr_sectors = from->nr_sectors;
	} else if (from->operation == BLKIF_OP_INDIRECT) {
		blkif_request_indirect_t *indirect = (void *)to;

		indirect->indirect_op = from->indirect_op;
		indirect->nr_segments = from->nr_segments;
		indirect->id = from->id;
		indirect->sector_number = from->sector;
		indirect->handle = from->handle;
		for (i = 0; i < BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST; i++)
			indirect->indirect_grefs[i] = from->gref[i];
	} else {
		to->nr_segments = from->nr_segments;
		to->handle = from->handle;
		to->id = from->id;
		to->sector_number = from->sector;
		for (i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++) {
			to->seg[i].gref = from->gref[i];
			to->seg[i].first_sect = from->first[i];
			to->seg[i].last_sect = from->last[i];
		}
	}
}

static void get_request(const blkif_request_t *from, struct plain *to)
{
	unsigned int i;

	memset(to, 0, sizeof(*to));
	to->operation = from->operation;
	if (from->operation == BLKIF_OP_DISCARD) {
		const blkif_request_discard_t *discard = (const void *)from;

		to->flag = discard->flag;
		to->handle = discard->handle;
		to->id = discard->id;
		to->sector = discard->sector_number;
		to->nr_sectors = discard->nr_sectors;
	} else if (from->operation == BLKIF_OP_INDIRECT) {
		const blkif_request_indirect_t *indirect = (const void *)from;

		to->indirect_op = indirect->indirect_op;
		to->nr_segments = indirect->nr_segments;
		to->id = indirect->id;
		to->sector = indirect->sector_number;
		to->handle = indirect->handle;
		for (i = 0; i < BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST; i++)
			to->gref[i] = indirect->indirect_grefs[i];
	} else {
		to->nr_segments = from->nr_segments;
		to->handle = from->handle;
		to->id = from->id;
		to->sector = from->sector_number;
		for (i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++) {
			to->gref[i] = from->seg[i].gref;
			to->first[i] = from->seg[i].first_sect;
			to->last[i] = from->seg[i].last_sect;
		}
	}
}

void NAME(front_init)(blkif_front_ring_t *front, void *page, size_t size, RING_IDX start)
{
	blkif_sring_t *shared = page;

	SHARED_RING_INIT(shared);
	/* Not at 0, so that a test is near the wraparound at once. */
	shared->req_prod = shared->rsp_prod = start;
	shared->req_event = shared->rsp_event = start + 1;
	FRONT_RING_ATTACH(front, shared, start, size);
}

void NAME(back_attach)(blkif_back_ring_t *back, void *page, size_t size)
{
	blkif_sring_t *shared = page;

	BACK_RING_ATTACH(back, shared, shared->rsp_prod, size);
}

int NAME(front_push)(blkif_front_ring_t *front, const struct plain *from)
{
	if (RING_FULL(front))
		return 0;
	put_request(RING_GET_REQUEST(front, front->req_prod_pvt), from);
	front->req_prod_pvt++;
	return 1;
}

int NAME(front_publish)(blkif_front_ring_t *front)
{
	int notify;

	RING_PUSH_REQUESTS_AND_CHECK_NOTIFY(front, notify);
	return notify;
}

int NAME(front_pop)(blkif_front_ring_t *front, struct plain_response *to)
{
	blkif_response_t response;

	if (front->sring->rsp_prod == front->rsp_cons)
		return 0;
	xen_rmb();
	RING_COPY_RESPONSE(front, front->rsp_cons, &response);
	front->rsp_cons++;
	to->id = response.id;
	to->operation = response.operation;
	to->status = response.status;
	return 1;
}

int NAME(front_check)(blkif_front_ring_t *front)
{
	int work;

	RING_FINAL_CHECK_FOR_RESPONSES(front, work);
	return !!work;
}

unsigned int NAME(front_free)(const blkif_front_ring_t *front)
{
	return RING_FREE_REQUESTS(front);
}

int NAME(front_overflow)(const blkif_front_ring_t *front)
{
	return RING_RESPONSE_PROD_OVERFLOW(front, front->sring->rsp_prod);
}

int NAME(back_push)(blkif_back_ring_t *back, const struct plain_response *from)
{
	blkif_response_t *to = RING_GET_RESPONSE(back, back->rsp_prod_pvt);

	if (back->rsp_prod_pvt == back->req_cons)
		return 0;
	memset(to, 0, sizeof(*to));
	to->id = from->id;
	to->operation = from->operation;
	to->status = from->status;
	back->rsp_prod_pvt++;
	return 1;
}

int NAME(back_publish)(blkif_back_ring_t *back)
{
	int notify;

	RING_PUSH_RESPONSES_AND_CHECK_NOTIFY(back, notify);
	return notify;
}

int NAME(back_pop)(blkif_back_ring_t *back, struct plain *to)
{
	blkif_request_t request;

	if (!RING_HAS_UNCONSUMED_REQUESTS(back))
		return 0;
	xen_rmb();
	RING_COPY_REQUEST(back, back->req_cons, &request);
	back->req_cons++;
	get_request(&request, to);
	return 1;
}

int NAME(back_check)(blkif_back_ring_t *back)
{
	int work;

	RING_FINAL_CHECK_FOR_REQUESTS(back, work);
	return !!work;
}

int NAME(back_overflow)(const blkif_back_ring_t *back)
{
	return RING_REQUEST_PROD_OVERFLOW(back, back->sring->req_prod);
}
