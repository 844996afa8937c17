// SPDX-License-Identifier: GPL-2.0
/* The module's parameters; names and defaults are those of xen-netfront. */

#include <linux/cpumask.h>
#include <linux/module.h>
#include <xen/platform_pci.h>
#include <xen/xen.h>

unsigned int netfront_max_queues;
module_param_named(max_queues, netfront_max_queues, uint, 0644);
MODULE_PARM_DESC(max_queues, "Most queues of an interface; 0: as many as there are CPUs, at most 8");

bool netfront_trusted = true;
module_param_named(trusted, netfront_trusted, bool, 0644);
MODULE_PARM_DESC(trusted, "Whether back ends may see whole pages of the guest's own");

unsigned int netfront_helper_online_cpus(void);
bool netfront_helper_has_pv_nics(void);

unsigned int netfront_helper_online_cpus(void)
{
	return num_online_cpus();
}

bool netfront_helper_has_pv_nics(void)
{
	return xen_domain() && xen_has_pv_nic_devices();
}
