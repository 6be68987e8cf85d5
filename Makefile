# SPDX-License-Identifier: GPL-2.0
# For users: make help. The kernel's build system reads Kbuild instead of this file.

KDIR ?= /lib/modules/$(shell uname -r)/build
INSTALL_MOD_DIR ?= updates
# A kernel built with clang wants its modules built with clang.
LLVM ?= $(if $(shell grep -s '^CONFIG_CC_IS_CLANG=y' $(KDIR)/include/config/auto.conf), \
	$(shell bash -c '. scripts/lib.sh; llvm_suffix'))
kbuild = M=$(CURDIR) $(if $(strip $(LLVM)),LLVM=$(strip $(LLVM)))

.DEFAULT_GOAL := modules
.PHONY: modules modules_install clean deb demo demo-type2 test test-upstream test-qemu test-dpdk test-libvirt test-clients bench check miri rust-analyzer htmldocs fmt kernel kernel-debug setup distclean help

# Header packages without Rust metadata get it: the folder to build in may be another one then.
modules: $(KDIR)/include/config/auto.conf
	+kdir=$$(scripts/rust-metadata $(KDIR)) && $(MAKE) -C "$$kdir" $(kbuild) modules

modules_install:
	+$(MAKE) -C $(KDIR) $(kbuild) INSTALL_MOD_DIR=$(INSTALL_MOD_DIR) modules_install

clean:
	+$(MAKE) -C $(KDIR) $(kbuild) clean

$(KDIR)/include/config/auto.conf:
	@echo "No built kernel in $(KDIR)."
	@echo "Its headers are missing (on Debian: linux-headers-KVER); or, for a kernel of your own,"
	@echo "built with CONFIG_RUST=y: make KDIR=/path/to/tree."
	@echo "To try it in a virtual machine instead, with nothing to prepare: make demo."
	@false

# Debian packages, below the cache.
deb:
	@scripts/deb

demo:
	@scripts/demo

demo-type2:
	@scripts/demo type2

test: setup
	@scripts/suite $(if $(ONLY),--only $(ONLY))

# Others' programs: stages of make test, alone and in full, and what it has no time for.
test-upstream test-qemu test-dpdk test-libvirt test-clients: setup
	@scripts/$@

bench: setup
	@scripts/bench

check:
	@scripts/check

miri:
	@scripts/miri

rust-analyzer: setup
	@scripts/rust-analyzer

# As kernel trees have it: of the documents, which any pager shows as well.
htmldocs: setup
	sphinx-build -nWq Documentation $${XDG_CACHE_HOME:-$$HOME/.cache}/vfio-rs/htmldocs

fmt:
	cargo fmt --manifest-path tools/Cargo.toml --all
	cargo fmt --manifest-path tools/clients/crates/Cargo.toml
	rustfmt --edition 2021 drivers/vfio_rs/main.rs rust/vfio_kernel/vfio_kernel.rs \
		rust/vfio_bindings/vfio_bindings.rs

setup:
	@scripts/setup

kernel: setup
	@scripts/kernel release && scripts/modules release

kernel-debug: setup
	@scripts/kernel debug && scripts/modules debug

# The kernels, programs and logs that the targets above keep outside the checkout.
distclean:
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/vfio-rs"

help:
	@echo 'For the machine that you are on:'
	@echo '  make                  build the modules for KDIR (now $(KDIR))'
	@echo '  make modules_install  install them where they win over the kernel'\''s own VFIO'
	@echo '  make clean            remove what make built'
	@echo '  make deb              Debian packages: for DKMS, built modules, programs'
	@echo 'In a virtual machine, with everything installed and built as needed:'
	@echo '  make demo             see a device do DMA under the module'
	@echo '  make demo-type2       see a device reach memory through windows: Documentation/type2.rst'
	@echo '  make test             all tests; make test ONLY=STAGE for one stage (scripts/suite --help)'
	@echo '  make test-upstream    Linux'\''s own VFIO selftests, on C VFIO and on ours, side by side'
	@echo '  make test-qemu        guests of QEMU with assigned devices, all kinds of interrupts'
	@echo '  make test-dpdk        DPDK forwards packets between two cards'
	@echo '  make test-libvirt     libvirt detaches, reattaches and assigns devices; as root, with mmdebstrap'
	@echo '  make test-clients     crates, driverctl, dpdk-devbind.py, DPDK, libblkio; the same'
	@echo '  make bench            measure it, C VFIO and iommufd; table, JSON, curves'
	@echo '  make kernel           build the VM'\''s kernel (KSRC=/path: from your source tree)'
	@echo '  make kernel-debug     the same with KASAN, lockdep and the other checkers'
	@echo '  scripts/vm --help     run anything in the VM'
	@echo 'For work on the project:'
	@echo '  make check            style and hygiene, under a minute;  make fmt formats'
	@echo '  make miri             tests of pure code under Miri, if a nightly Rust is there'
	@echo '  make rust-analyzer    write rust-project.json, by which editors know the crates'
	@echo '  make htmldocs         Documentation/ as web pages, in ~/.cache/vfio-rs/htmldocs'
	@echo '  make setup            install what is missing, nothing else'
	@echo '  make distclean        remove everything kept outside the checkout'
