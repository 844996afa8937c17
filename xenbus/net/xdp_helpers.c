// SPDX-License-Identifier: GPL-2.0
/* C helpers for xenbus/net/xdp.rs: what XDP offers only as a macro or an inline. */

#include <linux/bpf_trace.h>
#include <linux/filter.h>
#include <linux/module.h>
#include <linux/netlink.h>
#include <net/page_pool/helpers.h>
#include <net/xdp.h>

#include "helpers.h"

/* Whether @bpf is about a program, or about that there is to be none (NULL). */
bool net_helper_bpf_is_program(const struct netdev_bpf *bpf)
{
	return bpf->command == XDP_SETUP_PROG;
}
EXPORT_SYMBOL_GPL(net_helper_bpf_is_program);

struct bpf_prog *net_helper_bpf_program(const struct netdev_bpf *bpf)
{
	return bpf->prog;
}
EXPORT_SYMBOL_GPL(net_helper_bpf_program);

struct netlink_ext_ack *net_helper_bpf_extack(const struct netdev_bpf *bpf)
{
	return bpf->extack;
}
EXPORT_SYMBOL_GPL(net_helper_bpf_extack);

/* @extack may be NULL; @message is copied. */
void net_helper_extack(struct netlink_ext_ack *extack, const char *message)
{
	NL_SET_ERR_MSG_FMT(extack, "%s", message);
}
EXPORT_SYMBOL_GPL(net_helper_extack);

/* Zeroed memory at @rxq; pages of @pool are received into. */
int net_helper_xdp_register(struct xdp_rxq_info *rxq, struct net_device *dev, u32 queue,
			    struct page_pool *pool)
{
	int err;

	err = xdp_rxq_info_reg(rxq, dev, queue, 0);
	if (err)
		return err;
	err = xdp_rxq_info_reg_mem_model(rxq, MEM_TYPE_PAGE_POOL, pool);
	if (err)
		xdp_rxq_info_unreg(rxq);
	return err;
}
EXPORT_SYMBOL_GPL(net_helper_xdp_register);

bool net_helper_page_is_of(struct page *page, const struct page_pool *pool)
{
	return pp_page_to_nmdesc(page)->pp == pool;
}
EXPORT_SYMBOL_GPL(net_helper_page_is_of);

/* Without metadata. */
void net_helper_xdp_prepare(struct xdp_buff *xdp, struct xdp_rxq_info *rxq, struct page *page,
			    u32 offset, u32 len)
{
	xdp_init_buff(xdp, PAGE_SIZE, rxq);
	xdp_prepare_buff(xdp, page_address(page), offset, len, false);
}
EXPORT_SYMBOL_GPL(net_helper_xdp_prepare);

/* In a poll. */
u32 net_helper_xdp_run(const struct bpf_prog *program, struct xdp_buff *xdp)
{
	return bpf_prog_run_xdp(program, xdp);
}
EXPORT_SYMBOL_GPL(net_helper_xdp_run);

/* As xdp_do_flush(), while somebody may be taking pages from the pool that the packets are of. */
void net_helper_xdp_flush_late(void)
{
	xdp_set_return_frame_no_direct();
	xdp_do_flush();
	xdp_clear_return_frame_no_direct();
}
EXPORT_SYMBOL_GPL(net_helper_xdp_flush_late);

struct xdp_frame *net_helper_xdp_frame(struct xdp_buff *xdp)
{
	return xdp_convert_buff_to_frame(xdp);
}
EXPORT_SYMBOL_GPL(net_helper_xdp_frame);

void net_helper_xdp_exception(const struct net_device *dev, const struct bpf_prog *program, u32 action)
{
	trace_xdp_exception(dev, program, action);
}
EXPORT_SYMBOL_GPL(net_helper_xdp_exception);
