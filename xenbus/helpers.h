/* SPDX-License-Identifier: GPL-2.0 */
/* C helpers for what the kernel offers only as a macro, an inline or a variadic function. */

#ifndef _XENBUS_HELPERS_H
#define _XENBUS_HELPERS_H

#include <linux/debugfs.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/hrtimer.h>
#include <linux/timer.h>
#include <linux/workqueue.h>
#include <xen/events.h>
#include <xen/grant_table.h>
#include <xen/xenbus.h>

void xenbus_helper_dev_error(struct xenbus_device *dev, int err, const char *msg);
void xenbus_helper_dev_fatal(struct xenbus_device *dev, int err, const char *msg);
int xenbus_helper_add_uevent_var(struct kobj_uevent_env *env, const char *key, const char *value);
bool xenbus_helper_device_unregister(struct device *dev);
int xenbus_helper_set_parent(struct device *dev, struct device *parent);

/* What a file in debugfs does. */
struct xenbus_debug_calls {
	void (*show)(struct xenbus_debug_calls *calls, struct seq_file *to);
	/* NULL: it is read only. */
	int (*command)(struct xenbus_debug_calls *calls, const char *text, size_t len);
};

void xenbus_helper_debugfs_file(const char *name, struct dentry *dir,
				struct xenbus_debug_calls *calls);
void xenbus_helper_debugfs_remove(struct dentry *dir);

void xenbus_helper_virt_mb(void);

unsigned long xenbus_helper_spin_lock_irqsave(spinlock_t *lock);
bool xenbus_helper_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags);
void xenbus_helper_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags);

struct task_struct *xenbus_helper_kthread_create(int (*fn)(void *data), void *data,
						 const char *name);
void xenbus_helper_set_current_state(unsigned int state);
void xenbus_helper_cond_resched(void);
bool xenbus_helper_relax(void);
void xenbus_helper_get_task_struct(struct task_struct *task);
void xenbus_helper_put_task_struct(struct task_struct *task);
unsigned int xenbus_helper_online_cpus(void);

void xenbus_helper_init_work(struct work_struct *work, work_func_t fn);
bool xenbus_helper_queue_work(struct work_struct *work);

void xenbus_helper_init_delayed_work(struct delayed_work *work, work_func_t fn);
bool xenbus_helper_queue_delayed_work(struct delayed_work *work, unsigned int msecs);

void xenbus_helper_notify_port(evtchn_port_t port);
unsigned int xenbus_helper_noio_save(void);
void xenbus_helper_noio_restore(unsigned int flags);

void xenbus_helper_timer_setup(struct timer_list *timer, void (*fn)(struct timer_list *timer));
void xenbus_helper_hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*fn)(struct hrtimer *timer));
void xenbus_helper_hrtimer_start(struct hrtimer *timer, u64 nsecs);

void xenbus_helper_grant_page(grant_ref_t ref, domid_t domid, struct page *page, int readonly);
unsigned long xenbus_helper_page_to_gfn(struct page *page);
void xenbus_helper_set_map_op(struct gnttab_map_grant_ref *op, struct page *page, u32 flags,
			      grant_ref_t ref, domid_t domid);
void xenbus_helper_set_unmap_op(struct gnttab_unmap_grant_ref *op, struct page *page, u32 flags,
				grant_handle_t handle);
int xenbus_helper_copy_from_grant(domid_t domid, grant_ref_t ref, void *to, u16 len);
void *xenbus_helper_page_address(struct page *page);
void xenbus_helper_get_page(struct page *page);

#endif
