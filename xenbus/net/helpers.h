/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers for xenbus/net: what the network stack offers only as a macro or an inline. */

#ifndef _XENBUS_NET_HELPERS_H
#define _XENBUS_NET_HELPERS_H

#include <linux/etherdevice.h>
#include <linux/ethtool.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <net/page_pool/types.h>
#include <net/xdp.h>
#include <xen/grant_table.h>

/* What a network device is given before it is registered. */
struct net_helper_setup {
	const struct net_device_ops *ops;
	const struct ethtool_ops *ethtool;
	struct device *parent;
	/* May be NULL. */
	const struct attribute_group *group;
	void *data;
	u64 features;
	u64 hw_features;
	u32 min_mtu;
	u32 max_mtu;
	/* XDP: runs programs; sends frames of others. */
	bool runs_programs;
	bool sends_frames;
	u8 mac[ETH_ALEN];
};

/* Bytes of a page that are kept free behind a packet that programs are run on. */
enum {
	NET_HELPER_XDP_TAILROOM = SKB_DATA_ALIGN(sizeof(struct skb_shared_info)),
};

struct net_device *net_helper_alloc(const char *name, bool enumerated, unsigned int queues);
void net_helper_set_up(struct net_device *dev, const struct net_helper_setup *setup);
int net_helper_set_parent(struct net_device *dev, struct device *parent);
void *net_helper_data(const struct net_device *dev);
const char *net_helper_name(const struct net_device *dev);
void net_helper_set_mac(struct net_device *dev, const u8 *mac);
void net_helper_get_mac(const struct net_device *dev, u8 *mac);
u32 net_helper_mtu(const struct net_device *dev);
void net_helper_set_mtu(struct net_device *dev, u32 mtu);
u64 net_helper_features(const struct net_device *dev);
bool net_helper_is_running(const struct net_device *dev);
bool net_helper_carrier_ok(const struct net_device *dev);
int net_helper_set_queues(struct net_device *dev, unsigned int queues);
unsigned int net_helper_tx_queues(const struct net_device *dev);
void net_helper_update_features(struct net_device *dev);
void net_helper_notify_peers(struct net_device *dev);
void net_helper_detach(struct net_device *dev);
void net_helper_tx_start_all(struct net_device *dev);
void net_helper_tx_stop_all(struct net_device *dev);
void net_helper_tx_wake_all(struct net_device *dev);
void net_helper_tx_stop(struct net_device *dev, unsigned int queue);
void net_helper_tx_wake(struct net_device *dev, unsigned int queue);
u16 net_helper_pick_queue(struct net_device *dev, struct sk_buff *skb);
bool net_helper_tx_stopped(struct net_device *dev, unsigned int queue);
void net_helper_rtnl_lock(void);
void net_helper_rtnl_unlock(void);
void net_helper_synchronize(void);
bool net_helper_ratelimit(void);

void net_helper_napi_add(struct net_device *dev, struct napi_struct *napi,
			 int (*poll)(struct napi_struct *napi, int budget));
void net_helper_napi_del(struct napi_struct *napi);
u64 net_helper_napi_state(const struct napi_struct *napi);
int net_helper_napi_weight(const struct napi_struct *napi);
void net_helper_napi_schedule(struct napi_struct *napi);
void net_helper_gro_receive(struct napi_struct *napi, struct sk_buff *skb);
void net_helper_bh_disable(void);
void net_helper_bh_enable(void);

struct sk_buff *net_helper_alloc_skb(unsigned int len);
void net_helper_free_skb(struct sk_buff *skb);
void net_helper_consume_skb(struct sk_buff *skb);
struct sk_buff *net_helper_bounce(const struct sk_buff *skb);
struct sk_buff *net_helper_bounce_bytes(const void *from, unsigned int len);
struct page *net_helper_virt_to_page(const void *addr);
int net_helper_linearize(struct sk_buff *skb);
bool net_helper_may_pull(struct sk_buff *skb, unsigned int len);
void net_helper_add_frag(struct sk_buff *skb, struct page *page, unsigned int offset,
			 unsigned int len, unsigned int truesize);
void net_helper_mark_for_recycle(struct sk_buff *skb);
unsigned int net_helper_ip_summed(const struct sk_buff *skb);
void net_helper_set_ip_summed(struct sk_buff *skb, unsigned int ip_summed);
void net_helper_set_gso(struct sk_buff *skb, u16 size, u32 type, u16 segs);
unsigned int net_helper_tcp_headers(const struct sk_buff *skb);
bool net_helper_has_transport(const struct sk_buff *skb);
void net_helper_eth_type(struct sk_buff *skb, struct net_device *dev);
void net_helper_probe_transport(struct sk_buff *skb);
bool net_helper_must_segment(struct sk_buff *skb);
void net_helper_tx_timestamp(struct sk_buff *skb);
void net_helper_clear_hash(struct sk_buff *skb);
u32 net_helper_flow_hash(struct sk_buff *skb);

struct page_pool *net_helper_pool_create(struct device *dev, unsigned int pages);
struct page *net_helper_pool_alloc(struct page_pool *pool);
void net_helper_pool_put(struct page *page, bool in_napi);

void net_helper_copy(struct gnttab_copy *ops, unsigned int count);
void net_helper_copy_from(struct gnttab_copy *op, domid_t domid, grant_ref_t ref, u16 offset,
			  void *to, u16 len);
void net_helper_copy_of(struct gnttab_copy *op, struct page *page, u16 from);

bool net_helper_bpf_is_program(const struct netdev_bpf *bpf);
struct bpf_prog *net_helper_bpf_program(const struct netdev_bpf *bpf);
struct netlink_ext_ack *net_helper_bpf_extack(const struct netdev_bpf *bpf);
void net_helper_extack(struct netlink_ext_ack *extack, const char *message);
int net_helper_xdp_register(struct xdp_rxq_info *rxq, struct net_device *dev, u32 queue,
			    struct page_pool *pool);
bool net_helper_page_is_of(struct page *page, const struct page_pool *pool);
void net_helper_xdp_prepare(struct xdp_buff *xdp, struct xdp_rxq_info *rxq, struct page *page,
			    u32 offset, u32 len);
u32 net_helper_xdp_run(const struct bpf_prog *program, struct xdp_buff *xdp);
void net_helper_xdp_flush_late(void);
struct xdp_frame *net_helper_xdp_frame(struct xdp_buff *xdp);
void net_helper_xdp_exception(const struct net_device *dev, const struct bpf_prog *program, u32 action);

#endif
