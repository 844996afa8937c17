// SPDX-License-Identifier: GPL-2.0
//! The end of the man page.

pub(crate) const FILES: &str = r#".SH FILES
.TP
.I /run/blktap/DOMID\-HANDLE.log
what the program of a disk says; the other files beside it are for tapctl itself
.TP
.I /etc/xen/scripts/block\-tap
has xl start and end a chain with a guest's disk:
.BR "xl block\-attach GUEST 'script=block\-tap,vdev=xvdb,target=cow:base=/a.raw,delta=/b'" ;
target= is to come last
.SH SEE ALSO
.BR blktap (8),
.BR xl (1),
.BR xl\-disk\-configuration (5)
"#;
