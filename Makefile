# SPDX-License-Identifier: GPL-2.0
#
# The modules for this machine's kernel, the tools, and the lab. `make help` says what there is.
# What the modules are made of is in Kbuild.

ifdef KDIR
KVER ?= $(shell cat $(KDIR)/include/config/kernel.release 2>/dev/null)
else
KVER ?= $(shell uname -r)
KDIR = /lib/modules/$(KVER)/build
endif
DESTDIR ?=
MODULES := rust_xenbus blkfront blkback blktap netfront netback
MODULES_DIR = $(DESTDIR)/lib/modules/$(KVER)/updates
MODPROBE_D = $(DESTDIR)/etc/modprobe.d
UDEV_D = $(DESTDIR)/etc/udev/rules.d
PREFIX ?= /usr/local
INCLUDE = $(DESTDIR)$(PREFIX)/include
CARGO ?= cargo
# where the tools are when they are built
BUILT ?= $(or $(CARGO_TARGET_DIR),tools/target)/tap
SBIN = $(DESTDIR)$(PREFIX)/sbin
SHARE = $(DESTDIR)$(PREFIX)/share
XEN_SCRIPTS = $(DESTDIR)/etc/xen/scripts
TOOLS := blktap tapctl
# what a tool generates, and the folder and name for it
DOCS = man:man/man8/$(1).8 bash:bash-completion/completions/$(1) zsh:zsh/site-functions/_$(1) \
	fish:fish/vendor_completions.d/$(1).fish
TOOL_FILES = $(TOOLS:%=$(SBIN)/%) $(XEN_SCRIPTS)/block-tap \
	$(foreach t,$(TOOLS),$(foreach d,$(call DOCS,$(t)),$(SHARE)/$(lastword $(subst :, ,$(d)))))
# not in an empty DESTDIR, such as a package's, which does it when it is installed
DEPMOD = if [ -e $(DESTDIR)/lib/modules/$(KVER)/modules.order ]; then depmod $(if $(DESTDIR),-b $(DESTDIR)) $(KVER); fi
LAB := tools/lab/lab

.DEFAULT_GOAL := modules
.PHONY: modules install uninstall tools install-tools uninstall-tools demo check bench lab lab-shell clean distclean help kdir

modules: kdir
	$(MAKE) -C $(KDIR) M=$(CURDIR) modules

kdir:
	@test -e $(KDIR)/Makefile || { \
		echo "No kernel headers in $(KDIR): apt-get install linux-headers-$(KVER), or say KDIR=…" >&2; exit 1; }
	@grep -qs '^CONFIG_RUST=y' $(KDIR)/.config || { \
		echo "The kernel of $(KDIR) is built without Rust; Debian's is built with it from trixie-backports on." >&2; exit 1; }
	@test -e $(KDIR)/rust/libkernel.rmeta || { \
		echo "$(KDIR)/rust has no Rust metadata, which Debian's headers leave out. Make it with:" >&2; \
		echo "    tools/rust-metadata $(KVER)" >&2; exit 1; }

install:
	@for m in $(MODULES); do test -e $$m.ko || { echo "$$m.ko is not built: run make first" >&2; exit 1; }; done
	install -d $(MODULES_DIR) $(MODPROBE_D) $(UDEV_D) $(INCLUDE)
	install -m644 $(MODULES:=.ko) $(MODULES_DIR)
	install -m644 tools/xen-rust.conf $(MODPROBE_D)/xen-rust.conf
	install -m644 tools/60-blktap.rules $(UDEV_D)/60-blktap.rules
	install -m644 blktap/blktap.h $(INCLUDE)/blktap.h
	$(DEPMOD)

uninstall:
	rm -f $(MODULES:%=$(MODULES_DIR)/%.ko) $(MODPROBE_D)/xen-rust.conf \
		$(UDEV_D)/60-blktap.rules $(INCLUDE)/blktap.h
	if [ -d $(MODULES_DIR) ]; then rmdir --ignore-fail-on-non-empty $(MODULES_DIR); fi
	$(DEPMOD)

tools:
	cd tools && $(CARGO) build --profile tap --locked $(TOOLS:%=-p %)

install-tools:
	@for t in $(TOOLS); do test -e $(BUILT)/$$t || { echo "$(BUILT)/$$t is not built: run make tools first" >&2; exit 1; }; done
	install -d $(sort $(dir $(TOOL_FILES)))
	install -m755 $(TOOLS:%=$(BUILT)/%) $(SBIN)
	install -m755 tools/tapctl/block-tap $(XEN_SCRIPTS)/block-tap
	@set -e; $(foreach t,$(TOOLS),$(foreach d,$(call DOCS,$(t)), \
		echo "$(t) $(firstword $(subst :, ,$(d))): $(SHARE)/$(lastword $(subst :, ,$(d)))"; \
		$(BUILT)/$(t) generate $(firstword $(subst :, ,$(d))) >$(SHARE)/$(lastword $(subst :, ,$(d)));))

uninstall-tools:
	rm -f $(TOOL_FILES)

# Everything below runs in the lab; lab-packages installs what the host lacks for it.
lab:
	@tools/lab/lab-packages

demo: lab
	@$(LAB) demo

check: lab
	@tools/lab/check

bench: lab
	@tools/bench/bench
	@tools/bench/bench --net

lab-shell: lab
	@$(LAB) shell

clean:
	find . -name .git -prune -o -name target -prune -o \
		\( -name '*.o' -o -name '*.ko' -o -name '.*.cmd' -o -name '*.mod' -o -name '*.mod.c' -o -name '*.rmeta' \
		-o -name '*_generated.h' -o -name '*_generated.rs' -o -name '.tmp_*' -o -name '.module-common.o' \) \
		-type f -exec rm -f {} +
	rm -f modules.order Module.symvers .Module.symvers.cmd
	rm -rf tools/target

distclean: clean
	$(LAB) clean --all

help:
	@echo 'For a Xen host:'
	@echo '  make                the modules, for the running kernel (KDIR=… for another)'
	@echo '  make install        into updates/ of its modules, in the place of the C drivers (DESTDIR=…)'
	@echo '  make uninstall      take that back'
	@echo '  make tools          blktap and tapctl, for taps'
	@echo '  make install-tools  into PREFIX (/usr/local), with man pages and completions, and the script for xl'
	@echo '  make uninstall-tools'
	@echo 'Here, without Xen, as root on Debian 12 or 13:'
	@echo '  make demo           boot a Xen host, serve disks to running guests with our modules'
	@echo '  make check          all the tests; the last line is "N passed, M failed"'
	@echo '  make bench          the figures against the C drivers'
	@echo '  make lab-shell      an interactive dom0'
	@echo '  make clean          remove what was built (distclean: the lab too)'
	@echo 'Documentation/lab.md says how to write and run single tests.'
