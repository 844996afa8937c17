// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * count DOMID HANDLE: counts what a guest asks of its disk, and has the disk do it.
 *
 * A client of /dev/blktap with nothing but libc; Documentation/blktap.md explains each step. It does
 * not look at the data, so the data stays in the guest's own pages (BLKTAP_ATTACH_NO_DATA). It can be
 * ended at any moment, also by kill -9: the guest's requests go to the disk from then on.
 *
 *	cc -I../../blktap -o count count.c
 */
#include <blktap.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_QUEUES 64

/* A queue's rings, and how far we are. The ring's own words are only looked at or written once. */
struct queue {
	char *fe, *be;
	uint32_t fe_req_cons, fe_rsp_prod;
	uint32_t be_req_prod, be_rsp_cons;
};

static struct queue queues[MAX_QUEUES];
static uint64_t requests[4], sectors[4];

static struct blktap_ring *words(char *ring)
{
	return (struct blktap_ring *)ring;
}

static void *entry(char *ring, uint32_t index)
{
	return ring + sizeof(struct blktap_ring) + index % BLKTAP_ENTRIES * BLKTAP_ENTRY;
}

/* An entry is read after the index that shows it, and written before. */
static uint32_t look(const __u32 *index)
{
	return __atomic_load_n(index, __ATOMIC_ACQUIRE);
}

static void show(__u32 *index, uint32_t value)
{
	__atomic_store_n(index, value, __ATOMIC_RELEASE);
}

static void count(const struct blktap_request *request)
{
	static const int kinds[] = {
		[BLKTAP_OP_READ] = 0, [BLKTAP_OP_WRITE] = 1, [BLKTAP_OP_FLUSH] = 2, [BLKTAP_OP_DISCARD] = 3,
	};
	int kind = request->op <= BLKTAP_OP_DISCARD ? kinds[request->op] : 0;

	requests[kind]++;
	sectors[kind] += request->nr_sectors;
}

/* Passes on what has come to a queue; gives whether there was anything. */
static int serve(struct queue *queue)
{
	uint32_t fe_end = look(&words(queue->fe)->req_prod);
	uint32_t be_end = look(&words(queue->be)->rsp_prod);
	int some = fe_end != queue->fe_req_cons || be_end != queue->be_rsp_cons;

	while (queue->be_rsp_cons != be_end) {
		struct blktap_response response;

		memcpy(&response, entry(queue->be, queue->be_rsp_cons++), sizeof(response));
		/* Its id is that of the guest's request. What was read is in the guest's pages already. */
		response.flags = response.op == BLKTAP_OP_READ && response.status == BLKTAP_OKAY ?
			BLKTAP_FLAG_GUEST : 0;
		memcpy(entry(queue->fe, queue->fe_rsp_prod++), &response, sizeof(response));
	}
	/* There is room: the rings are of the same length, and each request is one of the guest's. */
	while (queue->fe_req_cons != fe_end) {
		struct blktap_request request;

		memcpy(&request, entry(queue->fe, queue->fe_req_cons++), sizeof(request));
		count(&request);
		request.data = BLKTAP_NO_DATA;
		request.guest = request.id;
		if (request.op == BLKTAP_OP_READ || request.op == BLKTAP_OP_WRITE)
			request.flags |= BLKTAP_FLAG_GUEST;
		memcpy(entry(queue->be, queue->be_req_prod++), &request, sizeof(request));
	}
	if (some) {
		show(&words(queue->fe)->rsp_prod, queue->fe_rsp_prod);
		show(&words(queue->be)->req_prod, queue->be_req_prod);
	}
	/* Wake us for the next one; poll() looks once more itself. */
	show(&words(queue->fe)->req_event, queue->fe_req_cons + 1);
	show(&words(queue->be)->rsp_event, queue->be_rsp_cons + 1);
	return some;
}

static void print(void)
{
	printf("reads %" PRIu64 " (%" PRIu64 " sectors) writes %" PRIu64 " (%" PRIu64 " sectors) "
	       "flushes %" PRIu64 " discards %" PRIu64 "\n",
	       requests[0], sectors[0], requests[1], sectors[1], requests[2], requests[3]);
	fflush(stdout);
}

static int fail(const char *what)
{
	fprintf(stderr, "count: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	struct blktap_attach attach = {
		.version = BLKTAP_VERSION,
		.flags = BLKTAP_ATTACH_NO_DATA,
		.mode = BLKTAP_MODE_INTERPOSE,
		.policy = BLKTAP_POLICY_PASSTHROUGH,
	};
	struct pollfd event = { .events = POLLIN };
	time_t printed = time(NULL);
	__u32 i;

	if (argc != 3) {
		fprintf(stderr, "usage: count DOMID HANDLE, such as: count 3 51728\n");
		return 2;
	}
	attach.domid = strtoul(argv[1], NULL, 10);
	attach.handle = strtoul(argv[2], NULL, 10);
	event.fd = open("/dev/blktap", O_RDWR | O_CLOEXEC);
	if (event.fd < 0)
		return fail("/dev/blktap");
	if (ioctl(event.fd, BLKTAP_ATTACH, &attach))
		return fail("attach");
	for (i = 0; i < attach.nr_queues && i < MAX_QUEUES; i++) {
		/* The two rings, without the window. */
		queues[i].fe = mmap(NULL, 2 * BLKTAP_RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
				    event.fd, i * attach.region_bytes);
		if (queues[i].fe == MAP_FAILED)
			return fail("mmap");
		queues[i].be = queues[i].fe + BLKTAP_RING_BYTES;
	}
	for (;;) {
		__u64 kick = 0;

		for (i = 0; i < attach.nr_queues && i < MAX_QUEUES; i++)
			kick |= (__u64)serve(&queues[i]) << i;
		if (kick && ioctl(event.fd, BLKTAP_KICK, &kick))
			return fail("kick");
		if (time(NULL) != printed) {
			printed = time(NULL);
			print();
		}
		if (poll(&event, 1, 1000) < 0)
			return fail("poll");
		if (event.revents & (POLLERR | POLLHUP))
			break;
	}
	print();
	fprintf(stderr, "count: %s\n", event.revents & POLLHUP ? "the disk has gone" : "the rings are broken");
	return !(event.revents & POLLHUP);
}
