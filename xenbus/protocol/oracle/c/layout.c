// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Where the fields of blkif.h and netif.h are. build.rs reads the lines that begin with "->". */
#include "xen.h"
#include "../../../../blktap/blktap.h"

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

	SIZE(netif_tx_request);
	FIELD(netif_tx_request, gref);
	FIELD(netif_tx_request, offset);
	FIELD(netif_tx_request, flags);
	FIELD(netif_tx_request, id);
	FIELD(netif_tx_request, size);

	SIZE(netif_tx_response);
	FIELD(netif_tx_response, id);
	FIELD(netif_tx_response, status);

	SIZE(netif_rx_request);
	FIELD(netif_rx_request, id);
	FIELD(netif_rx_request, gref);

	SIZE(netif_rx_response);
	FIELD(netif_rx_response, id);
	FIELD(netif_rx_response, offset);
	FIELD(netif_rx_response, flags);
	FIELD(netif_rx_response, status);

	SIZE(netif_extra_info);
	FIELD(netif_extra_info, type);
	FIELD(netif_extra_info, flags);
	FIELD(netif_extra_info, u.gso.size);
	FIELD(netif_extra_info, u.gso.type);
	FIELD(netif_extra_info, u.gso.features);
	FIELD(netif_extra_info, u.mcast.addr);
	FIELD(netif_extra_info, u.hash.type);
	FIELD(netif_extra_info, u.hash.algorithm);
	FIELD(netif_extra_info, u.hash.value);

	SIZE(xen_netif_ctrl_request);
	FIELD(xen_netif_ctrl_request, id);
	FIELD(xen_netif_ctrl_request, type);
	FIELD(xen_netif_ctrl_request, data);

	SIZE(xen_netif_ctrl_response);
	FIELD(xen_netif_ctrl_response, id);
	FIELD(xen_netif_ctrl_response, type);
	FIELD(xen_netif_ctrl_response, status);
	FIELD(xen_netif_ctrl_response, data);

	ENTRY("netif_tx_ring_size", __CONST_RING_SIZE(netif_tx, 4096), 0);
	ENTRY("netif_rx_ring_size", __CONST_RING_SIZE(netif_rx, 4096), 0);
	ENTRY("netif_ctrl_ring_size", __CONST_RING_SIZE(xen_netif_ctrl, 4096), 0);

	VALUE(NETTXF_csum_blank);
	VALUE(NETTXF_data_validated);
	VALUE(NETTXF_more_data);
	VALUE(NETTXF_extra_info);
	VALUE(NETRXF_data_validated);
	VALUE(NETRXF_csum_blank);
	VALUE(NETRXF_more_data);
	VALUE(NETRXF_extra_info);
	VALUE(NETRXF_gso_prefix);
	VALUE(NETIF_RSP_DROPPED);
	VALUE(NETIF_RSP_ERROR);
	VALUE(NETIF_RSP_OKAY);
	VALUE(NETIF_RSP_NULL);
	VALUE(XEN_NETIF_NR_SLOTS_MIN);
	VALUE(XEN_NETIF_MAX_TX_SIZE);
	VALUE(XEN_NETIF_EXTRA_TYPE_GSO);
	VALUE(XEN_NETIF_EXTRA_TYPE_MCAST_ADD);
	VALUE(XEN_NETIF_EXTRA_TYPE_MCAST_DEL);
	VALUE(XEN_NETIF_EXTRA_TYPE_HASH);
	VALUE(XEN_NETIF_EXTRA_FLAG_MORE);
	VALUE(XEN_NETIF_GSO_TYPE_NONE);
	VALUE(XEN_NETIF_GSO_TYPE_TCPV4);
	VALUE(XEN_NETIF_GSO_TYPE_TCPV6);
	VALUE(XEN_NETIF_CTRL_HASH_TYPE_IPV4);
	VALUE(XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
	VALUE(XEN_NETIF_CTRL_HASH_TYPE_IPV6);
	VALUE(XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP);
	VALUE(_XEN_NETIF_CTRL_HASH_TYPE_IPV4);
	VALUE(_XEN_NETIF_CTRL_HASH_TYPE_IPV4_TCP);
	VALUE(_XEN_NETIF_CTRL_HASH_TYPE_IPV6);
	VALUE(_XEN_NETIF_CTRL_HASH_TYPE_IPV6_TCP);
	VALUE(XEN_NETIF_CTRL_HASH_ALGORITHM_NONE);
	VALUE(XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ);
	VALUE(XEN_NETIF_CTRL_TYPE_INVALID);
	VALUE(XEN_NETIF_CTRL_TYPE_GET_HASH_FLAGS);
	VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_FLAGS);
	VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_KEY);
	VALUE(XEN_NETIF_CTRL_TYPE_GET_HASH_MAPPING_SIZE);
	VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING_SIZE);
	VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_MAPPING);
	VALUE(XEN_NETIF_CTRL_TYPE_SET_HASH_ALGORITHM);
	VALUE(XEN_NETIF_CTRL_TYPE_GET_GREF_MAPPING_SIZE);
	VALUE(XEN_NETIF_CTRL_TYPE_ADD_GREF_MAPPING);
	VALUE(XEN_NETIF_CTRL_TYPE_DEL_GREF_MAPPING);
	VALUE(XEN_NETIF_CTRL_STATUS_SUCCESS);
	VALUE(XEN_NETIF_CTRL_STATUS_NOT_SUPPORTED);
	VALUE(XEN_NETIF_CTRL_STATUS_INVALID_PARAMETER);
	VALUE(XEN_NETIF_CTRL_STATUS_BUFFER_OVERFLOW);

	VALUE(XenbusStateUnknown);
	VALUE(XenbusStateInitialising);
	VALUE(XenbusStateInitWait);
	VALUE(XenbusStateInitialised);
	VALUE(XenbusStateConnected);
	VALUE(XenbusStateClosing);
	VALUE(XenbusStateClosed);
	VALUE(XenbusStateReconfiguring);
	VALUE(XenbusStateReconfigured);

	SIZE(blktap_ring);
	FIELD(blktap_ring, req_prod);
	FIELD(blktap_ring, req_event);
	FIELD(blktap_ring, rsp_prod);
	FIELD(blktap_ring, rsp_event);

	SIZE(blktap_request);
	FIELD(blktap_request, id);
	FIELD(blktap_request, op);
	FIELD(blktap_request, flags);
	FIELD(blktap_request, sector);
	FIELD(blktap_request, nr_sectors);
	FIELD(blktap_request, data);
	FIELD(blktap_request, guest);

	SIZE(blktap_response);
	FIELD(blktap_response, id);
	FIELD(blktap_response, op);
	FIELD(blktap_response, flags);
	FIELD(blktap_response, status);

	SIZE(blktap_attach);
	FIELD(blktap_attach, version);
	FIELD(blktap_attach, domid);
	FIELD(blktap_attach, handle);
	FIELD(blktap_attach, flags);
	FIELD(blktap_attach, mode);
	FIELD(blktap_attach, policy);
	FIELD(blktap_attach, guest_bytes);
	FIELD(blktap_attach, own_bytes);
	FIELD(blktap_attach, nr_queues);
	FIELD(blktap_attach, reserved);
	FIELD(blktap_attach, region_bytes);

	SIZE(blktap_geometry);
	FIELD(blktap_geometry, sectors);
	FIELD(blktap_geometry, sector_size);
	FIELD(blktap_geometry, physical_sector_size);
	FIELD(blktap_geometry, features);
	FIELD(blktap_geometry, discard_granularity);

	SIZE(blktap_info);
	FIELD(blktap_info, domid);
	FIELD(blktap_info, handle);
	FIELD(blktap_info, flags);
	FIELD(blktap_info, state);
	FIELD(blktap_info, mode);
	FIELD(blktap_info, policy);
	FIELD(blktap_info, pid);
	FIELD(blktap_info, nr_queues);
	FIELD(blktap_info, nr_connected);
	FIELD(blktap_info, generation);
	FIELD(blktap_info, geometry);

	SIZE(blktap_queue_info);
	FIELD(blktap_queue_info, domid);
	FIELD(blktap_queue_info, handle);
	FIELD(blktap_queue_info, queue);
	FIELD(blktap_queue_info, fe_in_flight);
	FIELD(blktap_queue_info, be_in_flight);
	FIELD(blktap_queue_info, fe_req_prod);
	FIELD(blktap_queue_info, fe_rsp_prod);
	FIELD(blktap_queue_info, be_req_prod);
	FIELD(blktap_queue_info, be_rsp_prod);
	FIELD(blktap_queue_info, refused);
	FIELD(blktap_queue_info, requests);
	FIELD(blktap_queue_info, sectors);
	FIELD(blktap_queue_info, latency);

	SIZE(blktap_set);
	FIELD(blktap_set, domid);
	FIELD(blktap_set, handle);
	FIELD(blktap_set, what);
	FIELD(blktap_set, value);

	VALUE(BLKTAP_VERSION);
	VALUE(BLKTAP_RING_BYTES);
	VALUE(BLKTAP_ENTRY);
	VALUE(BLKTAP_ENTRIES);
	VALUE(BLKTAP_SECTOR_SIZE);
	VALUE(BLKTAP_MAX_SECTORS);
	ENTRY("BLKTAP_NO_DATA", (int)BLKTAP_NO_DATA, 0);
	VALUE(BLKTAP_OP_READ);
	VALUE(BLKTAP_OP_WRITE);
	VALUE(BLKTAP_OP_FLUSH);
	VALUE(BLKTAP_OP_DISCARD);
	VALUE(BLKTAP_FLAG_BARRIER);
	VALUE(BLKTAP_FLAG_SECURE);
	VALUE(BLKTAP_FLAG_GUEST);
	VALUE(BLKTAP_FLAG_PASS);
	VALUE(BLKTAP_OKAY);
	VALUE(BLKTAP_ERROR);
	VALUE(BLKTAP_EOPNOTSUPP);
	VALUE(BLKTAP_MODE_PASSTHROUGH);
	VALUE(BLKTAP_MODE_INTERPOSE);
	VALUE(BLKTAP_MODE_INTERCEPT_FE);
	VALUE(BLKTAP_MODE_INTERCEPT_BE);
	VALUE(BLKTAP_POLICY_HOLD);
	VALUE(BLKTAP_POLICY_PASSTHROUGH);
	VALUE(BLKTAP_POLICY_ERROR);
	VALUE(BLKTAP_STATE_IDLE);
	VALUE(BLKTAP_STATE_CONNECTED);
	VALUE(BLKTAP_STATE_GONE);
	VALUE(BLKTAP_STATE_BROKEN);
	VALUE(BLKTAP_ATTACH_WAIT);
	VALUE(BLKTAP_ATTACH_NO_DATA);
	VALUE(BLKTAP_ATTACH_POLLS);
	VALUE(BLKTAP_GEOMETRY_FLUSH);
	VALUE(BLKTAP_GEOMETRY_DISCARD);
	VALUE(BLKTAP_GEOMETRY_SECURE_DISCARD);
	VALUE(BLKTAP_GEOMETRY_READ_ONLY);
	VALUE(BLKTAP_GEOMETRY_CDROM);
	VALUE(BLKTAP_GEOMETRY_REMOVABLE);
	VALUE(BLKTAP_INFO_NEXT);
	VALUE(BLKTAP_BUCKETS);
	VALUE(BLKTAP_SET_MODE);
	VALUE(BLKTAP_SET_POLICY);
	VALUE(BLKTAP_SET_REMOVE);
	ENTRY("BLKTAP_ATTACH", (int)BLKTAP_ATTACH, 0);
	ENTRY("BLKTAP_KICK", (int)BLKTAP_KICK, 0);
	ENTRY("BLKTAP_INFO", (int)BLKTAP_INFO, 0);
	ENTRY("BLKTAP_QUEUE_INFO", (int)BLKTAP_QUEUE_INFO, 0);
	ENTRY("BLKTAP_SET", (int)BLKTAP_SET, 0);
	ENTRY("BLKTAP_SET_GEOMETRY", (int)BLKTAP_SET_GEOMETRY, 0);
}
