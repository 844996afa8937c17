# SPDX-License-Identifier: GPL-2.0
"""What a function is for: names to areas, the first that fits."""

import re

XEN = [
    ("events", r"evtchn|event_channel|send_guest|vcpu_mark_events_pending|event_fifo|set_pending"),
    ("grants and mapping", r"gnttab|grant|unmap_common|map_guest|get_page|put_page|page_type|flush_area|"
                           r"devalidate|mod_l\d|mmu_update|va_mapping|l1e|map_domain_page|unmap_domain|"
                           r"maptrack|active_entry|rcu_lock_domain|mfn|p2m|tlb"),
    ("tasks of a domain (segments, stacks, FPU)", r"segment_base|descriptor|stack_switch|fpu|load_segments|taskswitch"),
    ("scheduling and timers", r"sched|timer|runstate|s_time|softirq|context_switch|vcpu_(wake|kick|block|unblock)|"
                              r"idle|runq|credit|tasklet|stime|rcu_|cpumask|tickle|poke|heap"),
    ("entry and exit", r"."),
]
KERNEL = [
    ("our drivers, or the C ones", r"\[(blkfront|blkback|blktap|netfront|netback|rust_xenbus|xen_blkfront|xen_blkback|"
                                   r"xen_netfront|xen_netback)\]|(blk|net)(front|back)_helper|xenbus_helper|net_helper"),
    ("memcpy, memset", r"^(__)?mem(cpy|set|move)"),
    ("page tables of a PV domain", r"mfn_to_pfn|p[tmug4]+d?_val|make_p|pte|zap_|phys_to_machine"),
    ("grants", r"gnttab|free_entries|grant|foreign_p2m|p2m|xenbus_helper|lookup_address|xen_page"),
    ("events", r"evtchn|irq_work|handle_irq|handle_edge|generic_handle|irq_enter|irq_exit|eoi|mtree|mas_|"
               r"irq_desc|irq_get|note_interrupt|handle_fasteoi|xen_hvm|hypervisor_callback|irqaction|irq_to_desc|"
               r"notify_remote|xen_send_IPI|upcall|bitmap|info_for_irq|irqentry|handle_softirqs|common_interrupt|"
               r"raise_softirq|irq_ack|irq_mask|irq_may_run|lateeoi"),
    ("workqueue", r"work(er|queue|_on)?(_|$)|queue_work|process_one_work|kick_pool|pwq|mod_delayed|delayed_work"),
    ("task switches and wake-ups", r"sched(?!_dispatch|_insert|_bio|_tag)|switch|_fair|entit|load_avg|psi_|wake|"
                                   r"task|vruntime|eevdf|load_tls|tls|curr|rq_clock|cfs|_se$|_dl|"
                                   r"mc_flush|mc_issue|mc_entry|mc_batch|enter_lazy|load_sp0|load_gs|cpuacct|record_times|mm_cid|kthread|"
                                   r"tick|hrtimer|timer|cpu_startup|idle|xen_safe_halt|stop_hv|set_next|put_prev|"
                                   r"deactivate|activate|prepare_to_wait|finish_wait|ttwu|resched|rseq|rcu_note|membarrier"),
    ("network stack", r"skb|sock|^__?net|_net|napi|tcp|udp|^ip_|_ip_|ipv4|inet|fib|neigh|dst_|eth_|dev_|qdisc|br_|csum|"
                      r"checksum|gro_|gso|sch_|pfifo|icmp|arp|rtnl|nf_|page_pool|xmit|flow|l4"),
    ("block layer", r"blk|wbt|rq_qos|bio|dd_|elv|sbitmap|request|null_|disk|iostat|part_stat|update_io|mempool|plug|deadline|ioc_|bdev"),
    ("system calls, libaio, direct I/O", r"aio|io_submit|getevents|iov|gup|folio|pages|sys|entry_|user|"
                                         r"rep_movs|prandom|fget|read_events|rw_verify|usercopy|object_size|clock_gettime|timespec|read_iter|vfs|"
                                         r"kiocb|file|fd|dio|direct|ctx|fpregs|virt_addr|copy"),
    ("clocks", r"pvclock|ktime|clock"),
    ("memory allocation", r"kmem|kmalloc|kfree|slab|slub|obj_|memcg|page_cache"),
    ("locks and interrupts on and off", r"lock|xen_(irq|save|restore)|irq_(en|dis)able|callee_save|thunk|rcu|list"),
    ("other", r"."),
]


def area(part, name):
    """The area of a function; part is "guest kernel" and the like."""
    if part.endswith("user"):
        return "fio" if part.startswith("guest") else "user"
    for what, pattern in XEN if part.endswith("Xen") else KERNEL:
        if re.search(pattern, name, re.I):
            return what
    return "other"
