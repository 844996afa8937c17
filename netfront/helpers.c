// SPDX-License-Identifier: GPL-2.0
/* The module's parameters; names and defaults are those of xen-netfront. */

#include <linux/capability.h>
#include <linux/device.h>
#include <linux/module.h>
#include <xen/platform_pci.h>
#include <xen/xen.h>

unsigned int netfront_max_queues;
module_param_named(max_queues, netfront_max_queues, uint, 0644);
MODULE_PARM_DESC(max_queues, "Most queues of an interface; 0: as many as there are CPUs, at most 8");

bool netfront_trusted = true;
module_param_named(trusted, netfront_trusted, bool, 0644);
MODULE_PARM_DESC(trusted, "Whether back ends may see whole pages of the guest's own");

/* How many pages a ring holds, which nobody can change any more. */
static ssize_t show_rxbuf(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "256\n");
}

static ssize_t store_rxbuf(struct device *dev, struct device_attribute *attr, const char *buf,
			   size_t len)
{
	unsigned long value;

	if (!capable(CAP_NET_ADMIN))
		return -EPERM;
	return kstrtoul(buf, 0, &value) ? -EBADMSG : len;
}

static DEVICE_ATTR(rxbuf_min, 0644, show_rxbuf, store_rxbuf);
static DEVICE_ATTR(rxbuf_max, 0644, show_rxbuf, store_rxbuf);
static DEVICE_ATTR(rxbuf_cur, 0444, show_rxbuf, NULL);

static struct attribute *files[] = {
	&dev_attr_rxbuf_min.attr,
	&dev_attr_rxbuf_max.attr,
	&dev_attr_rxbuf_cur.attr,
	NULL
};

extern const struct attribute_group netfront_files;
const struct attribute_group netfront_files = {
	.attrs = files,
};

bool netfront_helper_has_pv_nics(void);

bool netfront_helper_has_pv_nics(void)
{
	return xen_domain() && xen_has_pv_nic_devices();
}
