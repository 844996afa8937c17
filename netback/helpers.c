// SPDX-License-Identifier: GPL-2.0
/* The module's parameters; but for coalesce_usecs, names and defaults are those of xen-netback. */

#include <linux/module.h>

bool netback_separate_tx_rx_irq = true;
module_param_named(separate_tx_rx_irq, netback_separate_tx_rx_irq, bool, 0644);
MODULE_PARM_DESC(separate_tx_rx_irq, "Offer an event channel for each ring, not one for both");

unsigned int netback_rx_drain_timeout_msecs = 10000;
module_param_named(rx_drain_timeout_msecs, netback_rx_drain_timeout_msecs, uint, 0444);
MODULE_PARM_DESC(rx_drain_timeout_msecs, "How long a packet waits for the guest at most, in ms");

unsigned int netback_rx_stall_timeout_msecs = 60000;
module_param_named(rx_stall_timeout_msecs, netback_rx_stall_timeout_msecs, uint, 0444);
MODULE_PARM_DESC(rx_stall_timeout_msecs,
		 "After how long without room for a packet a guest has no carrier, in ms; 0: never");

unsigned int netback_max_queues;
module_param_named(max_queues, netback_max_queues, uint, 0644);
MODULE_PARM_DESC(max_queues, "Most queues of a vif; 0: as many as there are CPUs, at most 8");

unsigned int netback_fatal_skb_slots = 20;
module_param_named(fatal_skb_slots, netback_fatal_skb_slots, uint, 0444);
MODULE_PARM_DESC(fatal_skb_slots, "More slots than these in a packet disable the vif");

unsigned int netback_coalesce_usecs = 100;
module_param_named(coalesce_usecs, netback_coalesce_usecs, uint, 0644);
MODULE_PARM_DESC(coalesce_usecs,
		 "How long a packet of a stream of them may wait for the next ones, in us; 0: not at all");

/* Nobody looks at it: to compute a hash costs less than to look it up in a list. */
static unsigned int hash_cache_size = 64;
module_param(hash_cache_size, uint, 0644);
MODULE_PARM_DESC(hash_cache_size, "Without effect: there is no cache, hashes are computed");

bool netback_provides_xdp_headroom = true;
module_param_named(provides_xdp_headroom, netback_provides_xdp_headroom, bool, 0644);
MODULE_PARM_DESC(provides_xdp_headroom, "Leave room in front of packets, if the guest asks for it");
