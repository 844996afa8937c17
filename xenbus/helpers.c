// SPDX-License-Identifier: GPL-2.0
/* C helpers for what the kernel offers only as a macro, an inline or a variadic function. */

#include <linux/cpumask.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <xen/page.h>

#include "helpers.h"

void xenbus_helper_dev_error(struct xenbus_device *dev, int err, const char *msg)
{
	xenbus_dev_error(dev, err, "%s", msg);
}
EXPORT_SYMBOL_GPL(xenbus_helper_dev_error);

void xenbus_helper_dev_fatal(struct xenbus_device *dev, int err, const char *msg)
{
	xenbus_dev_fatal(dev, err, "%s", msg);
}
EXPORT_SYMBOL_GPL(xenbus_helper_dev_fatal);

int xenbus_helper_add_uevent_var(struct kobj_uevent_env *env, const char *key, const char *value)
{
	return add_uevent_var(env, "%s=%s", key, value);
}
EXPORT_SYMBOL_GPL(xenbus_helper_add_uevent_var);

/*
 * Called in the xenwatch thread. Whoever unbinds a driver holds the device's lock and waits for
 * this thread, to end the device's watch: to wait for the lock here would be a deadlock.
 */
bool xenbus_helper_device_unregister(struct device *dev)
{
	if (!device_trylock(dev))
		return false;
	device_unlock(dev);
	device_unregister(dev);
	return true;
}
EXPORT_SYMBOL_GPL(xenbus_helper_device_unregister);

/* Whoever calls this is alone with the parents: nobody else adds a device of the class to them. */
int xenbus_helper_set_parent(struct device *dev, struct device *parent)
{
	bool has_parent = dev->parent;
	/* The class's in the old parent's directory, or in /sys/devices/virtual, which others share. */
	struct kobject *dir = kobject_get(dev->kobj.parent);
	int err = device_move(dev, parent, parent ? DPM_ORDER_DEV_AFTER_PARENT : DPM_ORDER_NONE);

	/*
	 * device_move() does not give back the reference on that directory which device_add(), or it
	 * itself, took, as device_del() does. What is left beside ours is that one.
	 */
	if (!err && has_parent && kref_read(&dir->kref) == 2)
		kobject_put(dir);
	kobject_put(dir);
	/* If it is the last of a shared one, only the core could give it back, under its lock. */
	if (!err && dir && !has_parent && !refcount_dec_not_one(&dir->kref.refcount))
		dev_dbg(dev, "has left an empty directory\n");
	return err;
}
EXPORT_SYMBOL_GPL(xenbus_helper_set_parent);

static int debug_show(struct seq_file *to, void *unused)
{
	struct xenbus_debug_calls *calls = to->private;

	calls->show(calls, to);
	return 0;
}

static int debug_open(struct inode *inode, struct file *file)
{
	int err = single_open(file, debug_show, inode->i_private);

	/* a command is written at whatever place */
	file->f_mode |= FMODE_PWRITE;
	return err;
}

static ssize_t debug_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct xenbus_debug_calls *calls = ((struct seq_file *)file->private_data)->private;
	char text[32];
	int err;

	if (*pos)
		return 0;
	if (!calls->command)
		return -EINVAL;
	if (len >= sizeof(text))
		return -ENOSPC;
	if (copy_from_user(text, from, len))
		return -EFAULT;
	err = calls->command(calls, text, len);
	return err ? err : len;
}

static const struct file_operations debug_file = {
	.owner = THIS_MODULE,
	.open = debug_open,
	.read = seq_read,
	.write = debug_write,
	.llseek = seq_lseek,
	.release = single_release,
};

void xenbus_helper_debugfs_file(const char *name, struct dentry *dir,
				struct xenbus_debug_calls *calls)
{
	debugfs_create_file(name, calls->command ? 0600 : 0400, dir, calls, &debug_file);
}
EXPORT_SYMBOL_GPL(xenbus_helper_debugfs_file);

void xenbus_helper_debugfs_remove(struct dentry *dir)
{
	debugfs_remove(dir);
}
EXPORT_SYMBOL_GPL(xenbus_helper_debugfs_remove);

void xenbus_helper_virt_mb(void)
{
	virt_mb();
}
EXPORT_SYMBOL_GPL(xenbus_helper_virt_mb);

unsigned long xenbus_helper_spin_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}
EXPORT_SYMBOL_GPL(xenbus_helper_spin_lock_irqsave);

bool xenbus_helper_spin_trylock_irqsave(spinlock_t *lock, unsigned long *flags)
{
	return spin_trylock_irqsave(lock, *flags);
}
EXPORT_SYMBOL_GPL(xenbus_helper_spin_trylock_irqsave);

void xenbus_helper_spin_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}
EXPORT_SYMBOL_GPL(xenbus_helper_spin_unlock_irqrestore);

struct task_struct *xenbus_helper_kthread_create(int (*fn)(void *data), void *data,
						 const char *name)
{
	return kthread_create(fn, data, "%s", name);
}
EXPORT_SYMBOL_GPL(xenbus_helper_kthread_create);

void xenbus_helper_set_current_state(unsigned int state)
{
	set_current_state(state);
}
EXPORT_SYMBOL_GPL(xenbus_helper_set_current_state);

void xenbus_helper_cond_resched(void)
{
	cond_resched();
}
EXPORT_SYMBOL_GPL(xenbus_helper_cond_resched);

/* True: others want this CPU. */
bool xenbus_helper_relax(void)
{
	cpu_relax();
	return need_resched();
}
EXPORT_SYMBOL_GPL(xenbus_helper_relax);

void xenbus_helper_get_task_struct(struct task_struct *task)
{
	get_task_struct(task);
}
EXPORT_SYMBOL_GPL(xenbus_helper_get_task_struct);

void xenbus_helper_put_task_struct(struct task_struct *task)
{
	put_task_struct(task);
}
EXPORT_SYMBOL_GPL(xenbus_helper_put_task_struct);

unsigned int xenbus_helper_online_cpus(void)
{
	return num_online_cpus();
}
EXPORT_SYMBOL_GPL(xenbus_helper_online_cpus);

void xenbus_helper_init_work(struct work_struct *work, work_func_t fn)
{
	INIT_WORK(work, fn);
}
EXPORT_SYMBOL_GPL(xenbus_helper_init_work);

bool xenbus_helper_queue_work(struct work_struct *work)
{
	return queue_work(system_percpu_wq, work);
}
EXPORT_SYMBOL_GPL(xenbus_helper_queue_work);

void xenbus_helper_init_delayed_work(struct delayed_work *work, work_func_t fn)
{
	INIT_DELAYED_WORK(work, fn);
}
EXPORT_SYMBOL_GPL(xenbus_helper_init_delayed_work);

bool xenbus_helper_queue_delayed_work(struct delayed_work *work, unsigned int msecs)
{
	return queue_delayed_work(system_percpu_wq, work, msecs_to_jiffies(msecs));
}
EXPORT_SYMBOL_GPL(xenbus_helper_queue_delayed_work);

void xenbus_helper_notify_port(evtchn_port_t port)
{
	notify_remote_via_evtchn(port);
}
EXPORT_SYMBOL_GPL(xenbus_helper_notify_port);

unsigned int xenbus_helper_noio_save(void)
{
	return memalloc_noio_save();
}
EXPORT_SYMBOL_GPL(xenbus_helper_noio_save);

void xenbus_helper_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}
EXPORT_SYMBOL_GPL(xenbus_helper_noio_restore);

void xenbus_helper_timer_setup(struct timer_list *timer, void (*fn)(struct timer_list *timer))
{
	timer_setup(timer, fn, 0);
}
EXPORT_SYMBOL_GPL(xenbus_helper_timer_setup);

void xenbus_helper_hrtimer_setup(struct hrtimer *timer, enum hrtimer_restart (*fn)(struct hrtimer *timer))
{
	hrtimer_setup(timer, fn, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
}
EXPORT_SYMBOL_GPL(xenbus_helper_hrtimer_setup);

void xenbus_helper_hrtimer_start(struct hrtimer *timer, u64 nsecs)
{
	hrtimer_start(timer, ns_to_ktime(nsecs), HRTIMER_MODE_REL);
}
EXPORT_SYMBOL_GPL(xenbus_helper_hrtimer_start);

void xenbus_helper_grant_page(grant_ref_t ref, domid_t domid, struct page *page, int readonly)
{
	gnttab_page_grant_foreign_access_ref_one(ref, domid, page, readonly);
}
EXPORT_SYMBOL_GPL(xenbus_helper_grant_page);

unsigned long xenbus_helper_page_to_gfn(struct page *page)
{
	return xen_page_to_gfn(page);
}
EXPORT_SYMBOL_GPL(xenbus_helper_page_to_gfn);

void xenbus_helper_set_map_op(struct gnttab_map_grant_ref *op, struct page *page, u32 flags,
			      grant_ref_t ref, domid_t domid)
{
	gnttab_set_map_op(op, (unsigned long)page_address(page), flags, ref, domid);
}
EXPORT_SYMBOL_GPL(xenbus_helper_set_map_op);

void xenbus_helper_set_unmap_op(struct gnttab_unmap_grant_ref *op, struct page *page, u32 flags,
				grant_handle_t handle)
{
	gnttab_set_unmap_op(op, (unsigned long)page_address(page), flags, handle);
}
EXPORT_SYMBOL_GPL(xenbus_helper_set_unmap_op);

/* A private copy of the start of a granted page; `to` is lowmem and does not cross a page. */
int xenbus_helper_copy_from_grant(domid_t domid, grant_ref_t ref, void *to, u16 len)
{
	struct gnttab_copy op = {
		.source.u.ref = ref,
		.source.domid = domid,
		.dest.u.gmfn = virt_to_gfn(to),
		.dest.domid = DOMID_SELF,
		.dest.offset = offset_in_page(to),
		.len = len,
		.flags = GNTCOPY_source_gref,
	};

	if (offset_in_page(to) + len > PAGE_SIZE)
		return -EINVAL;
	gnttab_batch_copy(&op, 1);
	return op.status == GNTST_okay ? 0 : -EINVAL;
}
EXPORT_SYMBOL_GPL(xenbus_helper_copy_from_grant);

void *xenbus_helper_page_address(struct page *page)
{
	return page_address(page);
}
EXPORT_SYMBOL_GPL(xenbus_helper_page_address);

void xenbus_helper_get_page(struct page *page)
{
	get_page(page);
}
EXPORT_SYMBOL_GPL(xenbus_helper_get_page);
