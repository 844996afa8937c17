// SPDX-License-Identifier: GPL-2.0
/* C helpers for xenbus/net: what the network stack offers only as a macro or an inline. */

#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <net/ip.h>
#include <net/netdev_lock.h>
#include <net/page_pool/helpers.h>
#include <net/tcp.h>
#include <xen/page.h>

#include <asm/xen/hypercall.h>

#include "../helpers.h"
#include "helpers.h"

/* @enumerated: the name is a pattern, such as "eth%d". */
struct net_device *net_helper_alloc(const char *name, bool enumerated, unsigned int queues)
{
	struct net_device *dev;

	dev = alloc_netdev_mqs(sizeof(void *), name,
			       enumerated ? NET_NAME_ENUM : NET_NAME_UNKNOWN, ether_setup, queues,
			       queues);
	/* A packet to be sent is owned, linked into lists, and changed. */
	if (dev)
		dev->priv_flags &= ~IFF_TX_SKB_SHARING;
	return dev;
}
EXPORT_SYMBOL_GPL(net_helper_alloc);

void net_helper_set_up(struct net_device *dev, const struct net_helper_setup *setup)
{
	SET_NETDEV_DEV(dev, setup->parent);
	dev->netdev_ops = setup->ops;
	dev->ethtool_ops = setup->ethtool;
	dev->features = setup->features;
	dev->hw_features = setup->hw_features;
	dev->min_mtu = setup->min_mtu;
	dev->max_mtu = setup->max_mtu;
	if (setup->runs_programs)
		dev->xdp_features |= NETDEV_XDP_ACT_BASIC | NETDEV_XDP_ACT_REDIRECT;
	if (setup->sends_frames)
		dev->xdp_features |= NETDEV_XDP_ACT_NDO_XMIT;
	eth_hw_addr_set(dev, setup->mac);
	dev->sysfs_groups[0] = setup->group;
	*(void **)netdev_priv(dev) = setup->data;
	netif_carrier_off(dev);
}
EXPORT_SYMBOL_GPL(net_helper_set_up);

int net_helper_set_parent(struct net_device *dev, struct device *parent)
{
	int err;

	/* Under the lock others look at the parent. */
	rtnl_lock();
	err = xenbus_helper_set_parent(&dev->dev, parent);
	rtnl_unlock();
	return err;
}
EXPORT_SYMBOL_GPL(net_helper_set_parent);

void *net_helper_data(const struct net_device *dev)
{
	return *(void **)netdev_priv(dev);
}
EXPORT_SYMBOL_GPL(net_helper_data);

const char *net_helper_name(const struct net_device *dev)
{
	return dev->name;
}
EXPORT_SYMBOL_GPL(net_helper_name);

void net_helper_set_mac(struct net_device *dev, const u8 *mac)
{
	rtnl_lock();
	eth_hw_addr_set(dev, mac);
	rtnl_unlock();
}
EXPORT_SYMBOL_GPL(net_helper_set_mac);

void net_helper_get_mac(const struct net_device *dev, u8 *mac)
{
	ether_addr_copy(mac, dev->dev_addr);
}
EXPORT_SYMBOL_GPL(net_helper_get_mac);

u32 net_helper_mtu(const struct net_device *dev)
{
	return READ_ONCE(dev->mtu);
}
EXPORT_SYMBOL_GPL(net_helper_mtu);

/* Within ndo_change_mtu() and ndo_set_features() only. */
void net_helper_set_mtu(struct net_device *dev, u32 mtu)
{
	WRITE_ONCE(dev->mtu, mtu);
}
EXPORT_SYMBOL_GPL(net_helper_set_mtu);

u64 net_helper_features(const struct net_device *dev)
{
	return dev->features;
}
EXPORT_SYMBOL_GPL(net_helper_features);

bool net_helper_is_running(const struct net_device *dev)
{
	return netif_running(dev);
}
EXPORT_SYMBOL_GPL(net_helper_is_running);

bool net_helper_carrier_ok(const struct net_device *dev)
{
	return netif_carrier_ok(dev);
}
EXPORT_SYMBOL_GPL(net_helper_carrier_ok);

/* With the RTNL lock held if the device is registered. */
int net_helper_set_queues(struct net_device *dev, unsigned int queues)
{
	return netif_set_real_num_queues(dev, queues, queues);
}
EXPORT_SYMBOL_GPL(net_helper_set_queues);

unsigned int net_helper_tx_queues(const struct net_device *dev)
{
	return READ_ONCE(dev->real_num_tx_queues);
}
EXPORT_SYMBOL_GPL(net_helper_tx_queues);

void net_helper_update_features(struct net_device *dev)
{
	rtnl_lock();
	netdev_update_features(dev);
	rtnl_unlock();
}
EXPORT_SYMBOL_GPL(net_helper_update_features);

void net_helper_notify_peers(struct net_device *dev)
{
	rtnl_lock();
	/* the queues of a device without a link drop all, until a worker has seen that it has one */
	netdev_lock_ops(dev);
	ethtool_op_get_link(dev);
	netdev_unlock_ops(dev);
	__netdev_notify_peers(dev);
	rtnl_unlock();
}
EXPORT_SYMBOL_GPL(net_helper_notify_peers);

/* The stack sends nothing any more when this has returned, until netif_device_attach(). */
void net_helper_detach(struct net_device *dev)
{
	/* before that its queues have no qdisc, which the unlock looks at */
	if (dev->reg_state != NETREG_REGISTERED)
		return;
	netif_tx_lock_bh(dev);
	netif_device_detach(dev);
	netif_tx_unlock_bh(dev);
}
EXPORT_SYMBOL_GPL(net_helper_detach);

void net_helper_tx_start_all(struct net_device *dev)
{
	netif_tx_start_all_queues(dev);
}
EXPORT_SYMBOL_GPL(net_helper_tx_start_all);

void net_helper_tx_stop_all(struct net_device *dev)
{
	netif_tx_stop_all_queues(dev);
}
EXPORT_SYMBOL_GPL(net_helper_tx_stop_all);

void net_helper_tx_wake_all(struct net_device *dev)
{
	netif_tx_wake_all_queues(dev);
}
EXPORT_SYMBOL_GPL(net_helper_tx_wake_all);

void net_helper_tx_stop(struct net_device *dev, unsigned int queue)
{
	if (queue < dev->num_tx_queues)
		netif_tx_stop_queue(netdev_get_tx_queue(dev, queue));
}
EXPORT_SYMBOL_GPL(net_helper_tx_stop);

void net_helper_tx_wake(struct net_device *dev, unsigned int queue)
{
	if (queue < dev->num_tx_queues)
		netif_tx_wake_queue(netdev_get_tx_queue(dev, queue));
}
EXPORT_SYMBOL_GPL(net_helper_tx_wake);

bool net_helper_tx_stopped(struct net_device *dev, unsigned int queue)
{
	return queue < dev->num_tx_queues &&
	       netif_tx_queue_stopped(netdev_get_tx_queue(dev, queue));
}
EXPORT_SYMBOL_GPL(net_helper_tx_stopped);

u16 net_helper_pick_queue(struct net_device *dev, struct sk_buff *skb)
{
	return netdev_pick_tx(dev, skb, NULL) % dev->real_num_tx_queues;
}
EXPORT_SYMBOL_GPL(net_helper_pick_queue);

void net_helper_rtnl_lock(void)
{
	rtnl_lock();
}
EXPORT_SYMBOL_GPL(net_helper_rtnl_lock);

void net_helper_rtnl_unlock(void)
{
	rtnl_unlock();
}
EXPORT_SYMBOL_GPL(net_helper_rtnl_unlock);

void net_helper_synchronize(void)
{
	synchronize_net();
}
EXPORT_SYMBOL_GPL(net_helper_synchronize);

bool net_helper_ratelimit(void)
{
	return net_ratelimit();
}
EXPORT_SYMBOL_GPL(net_helper_ratelimit);

void net_helper_napi_add(struct net_device *dev, struct napi_struct *napi,
			 int (*poll)(struct napi_struct *napi, int budget))
{
	netif_napi_add(dev, napi, poll);
}
EXPORT_SYMBOL_GPL(net_helper_napi_add);

void net_helper_napi_del(struct napi_struct *napi)
{
	netif_napi_del(napi);
}
EXPORT_SYMBOL_GPL(net_helper_napi_del);

u64 net_helper_napi_state(const struct napi_struct *napi)
{
	return READ_ONCE(napi->state);
}
EXPORT_SYMBOL_GPL(net_helper_napi_state);

int net_helper_napi_weight(const struct napi_struct *napi)
{
	return napi->weight;
}
EXPORT_SYMBOL_GPL(net_helper_napi_weight);

void net_helper_napi_schedule(struct napi_struct *napi)
{
	napi_schedule(napi);
}
EXPORT_SYMBOL_GPL(net_helper_napi_schedule);

void net_helper_gro_receive(struct napi_struct *napi, struct sk_buff *skb)
{
	napi_gro_receive(napi, skb);
}
EXPORT_SYMBOL_GPL(net_helper_gro_receive);

void net_helper_bh_disable(void)
{
	local_bh_disable();
}
EXPORT_SYMBOL_GPL(net_helper_bh_disable);

void net_helper_bh_enable(void)
{
	local_bh_enable();
}
EXPORT_SYMBOL_GPL(net_helper_bh_enable);

/*
 * Room for @len bytes, which are in the packet already, and not set; and for headers before them. With
 * soft interrupts off: packets are taken from what the CPU has at hand.
 */
struct sk_buff *net_helper_alloc_skb(unsigned int len)
{
	struct sk_buff *skb = __alloc_skb(len + NET_SKB_PAD + NET_IP_ALIGN, GFP_ATOMIC | __GFP_NOWARN,
					  SKB_ALLOC_NAPI, NUMA_NO_NODE);

	if (!skb)
		return NULL;
	skb_reserve(skb, NET_SKB_PAD + NET_IP_ALIGN);
	__skb_put(skb, len);
	return skb;
}
EXPORT_SYMBOL_GPL(net_helper_alloc_skb);

void net_helper_free_skb(struct sk_buff *skb)
{
	dev_kfree_skb_any(skb);
}
EXPORT_SYMBOL_GPL(net_helper_free_skb);

void net_helper_consume_skb(struct sk_buff *skb)
{
	dev_consume_skb_any(skb);
}
EXPORT_SYMBOL_GPL(net_helper_consume_skb);

/*
 * Linear, empty, at the start of whole pages, which hold zeroes beside the packet of @len bytes: what
 * belongs to the buffer itself is in a page after those.
 */
static struct sk_buff *alloc_own_pages(unsigned int len)
{
	unsigned int order = get_order(PAGE_ALIGN(len) +
				       SKB_DATA_ALIGN(sizeof(struct skb_shared_info)));
	struct sk_buff *skb;
	unsigned long data;

	data = __get_free_pages(GFP_ATOMIC | __GFP_NOWARN | __GFP_ZERO | __GFP_COMP, order);
	if (!data)
		return NULL;
	skb = build_skb((void *)data, PAGE_SIZE << order);
	if (!skb)
		free_pages(data, order);
	return skb;
}

struct sk_buff *net_helper_bounce(const struct sk_buff *skb)
{
	struct sk_buff *copy = alloc_own_pages(skb->len);

	if (!copy)
		return NULL;
	if (skb_copy_bits(skb, 0, __skb_put(copy, skb->len), skb->len)) {
		kfree_skb(copy);
		return NULL;
	}
	skb_copy_header(copy, skb);
	return copy;
}
EXPORT_SYMBOL_GPL(net_helper_bounce);

struct sk_buff *net_helper_bounce_bytes(const void *from, unsigned int len)
{
	struct sk_buff *copy = alloc_own_pages(len);

	if (copy)
		skb_put_data(copy, from, len);
	return copy;
}
EXPORT_SYMBOL_GPL(net_helper_bounce_bytes);

struct page *net_helper_virt_to_page(const void *addr)
{
	return virt_to_page(addr);
}
EXPORT_SYMBOL_GPL(net_helper_virt_to_page);

int net_helper_linearize(struct sk_buff *skb)
{
	return skb_linearize(skb);
}
EXPORT_SYMBOL_GPL(net_helper_linearize);

bool net_helper_may_pull(struct sk_buff *skb, unsigned int len)
{
	return pskb_may_pull(skb, len);
}
EXPORT_SYMBOL_GPL(net_helper_may_pull);

void net_helper_add_frag(struct sk_buff *skb, struct page *page, unsigned int offset,
			 unsigned int len, unsigned int truesize)
{
	skb_add_rx_frag(skb, skb_shinfo(skb)->nr_frags, page, offset, len, truesize);
}
EXPORT_SYMBOL_GPL(net_helper_add_frag);

void net_helper_mark_for_recycle(struct sk_buff *skb)
{
	skb_mark_for_recycle(skb);
}
EXPORT_SYMBOL_GPL(net_helper_mark_for_recycle);

unsigned int net_helper_ip_summed(const struct sk_buff *skb)
{
	return skb->ip_summed;
}
EXPORT_SYMBOL_GPL(net_helper_ip_summed);

void net_helper_set_ip_summed(struct sk_buff *skb, unsigned int ip_summed)
{
	skb->ip_summed = ip_summed;
}
EXPORT_SYMBOL_GPL(net_helper_set_ip_summed);

void net_helper_set_gso(struct sk_buff *skb, u16 size, u32 type, u16 segs)
{
	skb_shinfo(skb)->gso_size = size;
	skb_shinfo(skb)->gso_type = type;
	skb_shinfo(skb)->gso_segs = segs;
}
EXPORT_SYMBOL_GPL(net_helper_set_gso);

/* Of a packet whose transport header is known, and is TCP's; it need not be in the linear part. */
unsigned int net_helper_tcp_headers(const struct sk_buff *skb)
{
	struct tcphdr buffer, *th;
	int offset = skb_transport_offset(skb);

	th = skb_header_pointer(skb, offset, sizeof(buffer), &buffer);
	if (!th || th->doff < sizeof(*th) / 4)
		return 0;
	return offset + th->doff * 4;
}
EXPORT_SYMBOL_GPL(net_helper_tcp_headers);

bool net_helper_has_transport(const struct sk_buff *skb)
{
	return skb_transport_header_was_set(skb);
}
EXPORT_SYMBOL_GPL(net_helper_has_transport);

/* As from the wire: @dev has received it. The Ethernet header is in the linear part. */
void net_helper_eth_type(struct sk_buff *skb, struct net_device *dev)
{
	skb->dev = dev;
	skb->protocol = eth_type_trans(skb, dev);
	skb_reset_network_header(skb);
}
EXPORT_SYMBOL_GPL(net_helper_eth_type);

void net_helper_probe_transport(struct sk_buff *skb)
{
	skb_probe_transport_header(skb);
}
EXPORT_SYMBOL_GPL(net_helper_probe_transport);

/* The device takes no packet like this one as a whole. */
bool net_helper_must_segment(struct sk_buff *skb)
{
	return netif_needs_gso(skb, netif_skb_features(skb));
}
EXPORT_SYMBOL_GPL(net_helper_must_segment);

void net_helper_tx_timestamp(struct sk_buff *skb)
{
	skb_tx_timestamp(skb);
}
EXPORT_SYMBOL_GPL(net_helper_tx_timestamp);

void net_helper_clear_hash(struct sk_buff *skb)
{
	skb_clear_hash(skb);
}
EXPORT_SYMBOL_GPL(net_helper_clear_hash);

u32 net_helper_flow_hash(struct sk_buff *skb)
{
	return skb_get_hash(skb);
}
EXPORT_SYMBOL_GPL(net_helper_flow_hash);

struct page_pool *net_helper_pool_create(struct device *dev, unsigned int pages)
{
	struct page_pool_params params = {
		.pool_size = pages,
		.nid = NUMA_NO_NODE,
		.dev = dev,
		.max_len = PAGE_SIZE,
	};

	return page_pool_create(&params);
}
EXPORT_SYMBOL_GPL(net_helper_pool_create);

/* A page that is new is zeroed: somebody else is to be given access to it. */
struct page *net_helper_pool_alloc(struct page_pool *pool)
{
	return page_pool_alloc_pages(pool, GFP_ATOMIC | __GFP_NOWARN | __GFP_ZERO);
}
EXPORT_SYMBOL_GPL(net_helper_pool_alloc);

void net_helper_pool_put(struct page *page, bool in_napi)
{
	page_pool_put_full_page(pp_page_to_nmdesc(page)->pp, page, in_napi);
}
EXPORT_SYMBOL_GPL(net_helper_pool_put);

/*
 * In any context. gnttab_batch_copy() sleeps, for up to half a minute, where a page of the other end's is not there
 * at the moment (GNTST_eagain: it is paged out); the C back end calls it in a poll, in which nobody may sleep. Here
 * that is a failure: the packet is lost, but Xen has had the page fetched, so that one sent again gets through.
 */
void net_helper_copy(struct gnttab_copy *ops, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		ops[i].status = GNTST_general_error;
	WARN_ON_ONCE(HYPERVISOR_grant_table_op(GNTTABOP_copy, ops, count));
}
EXPORT_SYMBOL_GPL(net_helper_copy);

/* To @to, which has an address in the kernel's own mapping; the bytes lie in one page. */
void net_helper_copy_from(struct gnttab_copy *op, domid_t domid, grant_ref_t ref, u16 offset,
			  void *to, u16 len)
{
	op->source.u.ref = ref;
	op->source.domid = domid;
	op->source.offset = offset;
	op->dest.u.gmfn = virt_to_gfn(to);
	op->dest.domid = DOMID_SELF;
	op->dest.offset = offset_in_page(to);
	op->len = len;
	op->flags = GNTCOPY_source_gref;
}
EXPORT_SYMBOL_GPL(net_helper_copy_from);

/* Sets the source. A page that is mapped from another domain is one of that domain's for Xen, too. */
void net_helper_copy_of(struct gnttab_copy *op, struct page *page, u16 from)
{
	struct xen_page_foreign *foreign = xen_page_foreign(page);

	if (foreign) {
		op->source.u.ref = foreign->gref;
		op->source.domid = foreign->domid;
		op->flags |= GNTCOPY_source_gref;
	} else {
		op->source.u.gmfn = xen_page_to_gfn(page);
		op->source.domid = DOMID_SELF;
	}
	op->source.offset = from;
}
EXPORT_SYMBOL_GPL(net_helper_copy_of);
