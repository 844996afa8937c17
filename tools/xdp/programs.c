// SPDX-License-Identifier: GPL-2.0
/*
 * XDP programs for the lab, each a section of its name, without maps: xdp.c loads what is in one.
 *
 * `verdicts` does what the first byte of a test frame says (see xdp.h), and passes on what is none.
 * `patch` redirects every packet to the interface that `xdp attach` was given the number of.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include "xdp.h"

#define SECTION(name) __attribute__((section(name), used))

static long (*adjust_head)(struct xdp_md *, int) = (void *)BPF_FUNC_xdp_adjust_head;
static long (*adjust_tail)(struct xdp_md *, int) = (void *)BPF_FUNC_xdp_adjust_tail;
static long (*redirect)(__u32, __u64) = (void *)BPF_FUNC_redirect;

/* The head of the packet, if it has as many bytes. */
static __always_inline struct frame *frame(struct xdp_md *xdp)
{
	struct frame *frame = (void *)(long)xdp->data;

	return (void *)(frame + 1) <= (void *)(long)xdp->data_end ? frame : 0;
}

/* Takes @by bytes off the front, or adds so many, and puts the frame's head there. */
static __always_inline int move(struct xdp_md *xdp, int by)
{
	struct frame *now = frame(xdp), head;

	if (!now)
		return XDP_ABORTED;
	head = *now;
	if (adjust_head(xdp, by))
		return XDP_ABORTED;
	now = frame(xdp);
	if (!now)
		return XDP_ABORTED;
	*now = head;
	return XDP_PASS;
}

SECTION("verdicts")
int run_verdicts(struct xdp_md *xdp)
{
	struct frame *f = frame(xdp);
	unsigned char *byte;
	int i;

	if (!f || f->type != __builtin_bswap16(FRAME_TYPE))
		return XDP_PASS;
	switch (f->op) {
	case 'd':
		return XDP_DROP;
	case 'a':
		return XDP_ABORTED;
	case 'u':
		return 77;
	case 't':
		return XDP_TX;
	case 'r':
		return redirect(f->number, 0);
	case 'l':
		if (move(xdp, -128) != XDP_PASS)
			return XDP_ABORTED;
		byte = (void *)(long)xdp->data + sizeof(struct frame);
		if ((void *)(byte + 128) > (void *)(long)xdp->data_end)
			return XDP_ABORTED;
		for (i = 0; i < 128; i++)
			byte[i] = PATTERN(sizeof(struct frame) + PATTERN_PERIOD - 128 + i);
		return XDP_PASS;
	case 's':
		return move(xdp, 32);
	case 'c':
		return adjust_tail(xdp, -40) ? XDP_ABORTED : XDP_PASS;
	case 'g':
		return adjust_tail(xdp, 64) ? XDP_ABORTED : XDP_PASS;
	case 'h':
		/* Of the room, the head of a frame takes 40 bytes. */
		if (!adjust_head(xdp, -(XDP_PACKET_HEADROOM - 40) - 1))
			return XDP_ABORTED;
		return adjust_head(xdp, -(XDP_PACKET_HEADROOM - 40)) ||
		       adjust_head(xdp, XDP_PACKET_HEADROOM - 40) ? XDP_ABORTED : XDP_PASS;
	default:
		return XDP_PASS;
	}
}

SECTION("patch")
int run_patch(struct xdp_md *xdp)
{
	unsigned int number;

	asm volatile("%0 = %1" : "=r"(number) : "i"(NUMBER_HERE));
	return redirect(number, 0);
}
