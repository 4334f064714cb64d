# Every target installs what it needs on a bare Debian (as root) and starts a Docker engine where none runs.

SHELL := /bin/bash
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin
# pkg-config gives them with DPDK 24.11 and on arm64, and cgo takes no flag it does not know.
export CGO_CFLAGS_ALLOW := -mrtm|-moutline-atomics

# Another architecture's are built in a container of a suite, and so are another suite's: contrib/setup/inside, which sets INSIDE.
OWN_ARCH  := $(shell dpkg --print-architecture)
OWN_SUITE := $(shell . /etc/os-release && echo $$VERSION_CODENAME)
ARCH      := $(OWN_ARCH)
SUITE     := $(if $(filter $(OWN_ARCH),$(ARCH)),,$(OWN_SUITE))
INSIDE    ?=
elsewhere := $(if $(INSIDE),,$(SUITE))
inside     = PACKAGES="$(BUILD_PACKAGES)" ARCH=$(ARCH) contrib/setup/inside $(or $(SUITE),$(OWN_SUITE))
# Where that lies, and what it is of.
there     := bin/$(if $(elsewhere),$(SUITE)$(if $(filter $(OWN_ARCH),$(ARCH)),,-$(ARCH))/)
of        := $(or $(SUITE),$(OWN_SUITE)) $(ARCH)

ifneq ($(ARCH),$(OWN_ARCH))
triplet_amd64 := x86_64-linux-gnu
triplet_arm64 := aarch64-linux-gnu
triplet       := $(or $(triplet_$(ARCH)),$(error ARCH=$(ARCH): want amd64 or arm64))
foreign       := :$(ARCH)
ifneq ($(INSIDE),)
export GOARCH := $(ARCH)
export CGO_ENABLED := 1
export CC := $(triplet)-gcc
export PKG_CONFIG_LIBDIR := /usr/lib/$(triplet)/pkgconfig
endif
endif

BUILD_PACKAGES := $(if $(foreign),crossbuild-essential-$(ARCH),build-essential) pkg-config \
  $(addsuffix $(foreign),libdpdk-dev libpcap-dev $(if $(filter amd64,$(ARCH)),libipsec-mb-dev,libssl-dev))
LAB_PACKAGES   := debootstrap dpdk-dev ethtool iproute2 iptables procps
PLUGIN_PACKAGES := debootstrap
SUITE_PACKAGES := debootstrap
TEST_PACKAGES  := docker-registry dpdk-dev iperf3 iputils-ping jq nftables tcpdump tshark
TEST_SERVICES  := prometheus
DEB_PACKAGES   := dpkg-dev
DEB_TEST_PACKAGES := systemd
PIPELINE_PACKAGES := debootstrap dpdk-dev iproute2 openvswitch-switch-dpdk
HOSTS_PACKAGES := ethtool iperf3 iproute2 iputils-ping sockperf
NODE_PACKAGES  := iproute2 iputils-ping
GUEST_PACKAGES := kmod user-mode-linux
CARDS_PACKAGES := busybox-static debootstrap iperf3 iproute2 iputils-ping kmod
XDP_PACKAGES   := clang libbpf-dev llvm
FUZZ_PACKAGES  := clang libclang-rt-dev
PAGE_PACKAGES  := chromium iproute2 iputils-ping nodejs
LINT_PACKAGES  := clang-format clang-tidy shellcheck

# Tools that come by the module proxy, at the versions that were tried.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
export GOTESTSUM := gotest.tools/gotestsum@v1.13.0
# A test run whose events are kept for the table of the slowest, in bin/tests/NAME.json: $(call gotestsum,NAME,FORMAT) FLAGS
gotestsum = go run $(GOTESTSUM) --format $(2) --jsonfile-timing-events bin/tests/$(1).json --

# The C code of a test run under AddressSanitizer and UndefinedBehaviorSanitizer: $(sanitized) go test -asan. DPDK's hashes load words
# wherever they lie.
sanitized = ASAN_OPTIONS=detect_leaks=0 CGO_CFLAGS='-g -O2 -fsanitize=undefined -fno-sanitize=alignment -fno-sanitize-recover=undefined' CGO_LDFLAGS=-fsanitize=undefined

# What `overlane version` prints: the tag, the commits since and the last one's hash, or the hash alone where there is no tag.
RELEASE = $(shell git describe --tags --always --dirty --match 'v[0-9]*')
# Of the Debian package.
VERSION = $(shell contrib/deb/version $(SUITE))

# The version of the managed plugin, and the registry that plugin-push takes it to. Docker installs no plugin from a manifest of several
# architectures (findings/plugin-manifest-list.sh): arm64 has a tag of its own.
TAG      := latest$(if $(filter amd64,$(ARCH)),,-$(ARCH))
REGISTRY :=

# The platforms of the lab's hosts, as contrib/compose/build knows them: this machine's Debian, or those of a list such as
# bookworm,trixie, which a cluster's hosts have in turn.
HOSTS :=
unexport HOSTS # contrib/compose/ci counts by it
export PLATFORMS = $(HOSTS)
# Those of test-mixed: today's stable and another, this machine's if it is one.
MIXED := trixie,$(if $(filter trixie,$(OWN_SUITE)),bookworm,$(OWN_SUITE))
# The short form of test-lab: what differs by engine, distribution and release of DPDK.
SHORT := ^Test(Demo|EncryptedNetwork|EveryPair|Gateway|Names|TrafficOutlivesEngine|UserErrors)$$

# What bench-pipeline sends: flows over so many MACs, frames of so many bytes.
FLOWS := 1024
MACS  := 64
SIZE  := 64
# Length of each measurement of bench-hosts.
SECONDS := 4
# The cluster of sim.
NODES     := 1000
ENDPOINTS := 100000
# Random schedules of a simulated cluster, and as many of its addresses, in soak-unit; a failure prints its seed.
SCHEDULES := 3000
# Executions of each target of fuzz.
RUNS := 1000000
# How long each target of fuzz-gossip runs.
TIME := 2m

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: build
build: $(if $(elsewhere),engine,build-packages) ## Build bin/overlane; with SUITE= or ARCH=arm64 one for another Debian or architecture, in bin/SUITE-ARCH
ifneq ($(elsewhere),)
	contrib/setup/packages $(SUITE_PACKAGES)
	$(inside) make ARCH=$(ARCH) build
else
	go build -ldflags '-X main.release=$(RELEASE)' -o bin/overlane ./cmd/overlane
endif

.PHONY: install
install: build ## Build overlane and install it into /usr/local/bin, as a service where systemd runs
	install -m 755 bin/overlane /usr/local/bin/overlane
	contrib/systemd/install

.PHONY: deb
deb: $(if $(elsewhere),engine,build) ## Build bin/overlane_VERSION_ARCH.deb, a Debian package of the service. VERSION=that of the tag or commit SUITE= ARCH=
ifneq ($(elsewhere),)
	contrib/setup/packages $(SUITE_PACKAGES)
	$(inside) make ARCH=$(ARCH) VERSION=$(VERSION) deb
else
	contrib/setup/packages $(DEB_PACKAGES)
	contrib/deb/build $(VERSION) $(ARCH)
endif

.PHONY: man
man: build ## Write the manual pages of all commands into bin/man
	mkdir -p bin/man
	bin/overlane man bin/man

.PHONY: plugin
plugin: build engine ## Make the managed plugin overlane/overlane:TAG in this machine's engine. TAG=latest SUITE= ARCH=
	contrib/setup/packages $(PLUGIN_PACKAGES)
	contrib/plugin/create overlane/overlane:$(TAG) $(of) $(there)overlane

.PHONY: plugin-push
plugin-push: build engine ## Make the managed plugin and take it to a registry of yours. REGISTRY=host:port TAG=latest SUITE= ARCH=
	@[ -n "$(REGISTRY)" ] || { echo "where to? make plugin-push REGISTRY=host:port" >&2; exit 1; }
	contrib/setup/packages $(PLUGIN_PACKAGES)
	contrib/plugin/create $(REGISTRY)/overlane:$(TAG) $(of) $(there)overlane
	docker plugin push $(REGISTRY)/overlane:$(TAG)
	docker plugin rm $(REGISTRY)/overlane:$(TAG)

.PHONY: release
release: engine ## Make the release of the tag that is here in bin/release: packages, plugins, what is in them, checksums
	contrib/setup/packages $(SUITE_PACKAGES)
	contrib/release/build

.PHONY: release-part
release-part:
	$(inside) contrib/release/part $(VERSION) $(ARCH)

.PHONY: image
image: build engine ## Build overlane/host, the image of the lab's hosts. HOSTS=bookworm,trixie,forky,engine29, or some of them
	contrib/setup/packages $(LAB_PACKAGES)
	PACKAGES="$(BUILD_PACKAGES) dpdk-dev" contrib/compose/build $(HOSTS)

# What the image needs of bin, on a platform other than this machine's.
.PHONY: image-files
image-files: build
	contrib/setup/packages dpdk-dev
	contrib/compose/files

.PHONY: demo
demo: image ## Three Docker hosts, one network, and a look at all it does; the hosts stay up
	go run ./internal/lab/demo up

.PHONY: demo-down
demo-down: engine ## Remove all that the demo left
	go run ./internal/lab/demo down

.PHONY: test
test: ## Run every test there is, and say where the time went
	@contrib/ci/test lint test-unit test-deb test-arm64 test-page test-lab test-mixed

.PHONY: test-unit
test-unit: build-packages ## Tests of the packages, under the race detector; the C code and the fuzzers' corpus under sanitizers
	contrib/setup/packages $(LAB_PACKAGES) $(TEST_PACKAGES)
	contrib/setup/unstarted $(TEST_SERVICES)
	$(call gotestsum,race,pkgname) -race ./...
	$(sanitized) $(call gotestsum,asan,pkgname) -asan -tags dptest -skip TestUnderlays ./datapath/...
	contrib/fuzz/run replay

.PHONY: test-deb
test-deb: deb ## Look into the Debian package, and have systemd look at the service
	contrib/setup/packages $(DEB_TEST_PACKAGES)
	contrib/deb/test bin/overlane_$(VERSION)_$(ARCH).deb

# What comes by npm, at the versions and with the hashes of contrib/page/package-lock.json; Debian's npm where nodejs brings none.
.PHONY: page-modules
page-modules:
	@contrib/setup/packages $(PAGE_PACKAGES)
	@command -v npm >/dev/null || contrib/setup/packages npm
	@contrib/page/modules $(CURDIR)/bin/page

.PHONY: test-arm64
test-arm64: engine ## arm64: built here, its C code tested and its daemon started by QEMU; how it went in a last line RESULT. SUITE=
	contrib/setup/packages $(SUITE_PACKAGES)
	@$(MAKE) --no-print-directory ARCH=arm64 test-arm64-inside

.PHONY: test-arm64-inside
test-arm64-inside:
	ENGINE=1 $(inside) contrib/arm64/test

.PHONY: dp-test
dp-test: build-packages
	go test -c -tags dptest -o bin/dp.test ./datapath/dp

.PHONY: test-page
test-page: build page-modules ## The page in a browser, of three hosts and of a hundred; how it went in a last line RESULT
	set -o pipefail; $(call gotestsum,page,standard-verbose) -tags page -count=1 -run '^TestPageInBrowser$$' ./internal/page | sed '/^RESULT/{h;d};$${p;x}'

.PHONY: screenshots
screenshots: build page-modules ## Make the pictures of docs/page.md anew, by the test of the page
	rm -rf bin/page/shots && mkdir -p bin/page/shots
	SHOTS=$(CURDIR)/bin/page/shots go test -tags page -count=1 -run '^TestPageInBrowser$$' ./internal/page
	cp bin/page/shots/docs/*.png docs/

.PHONY: page-library
page-library: page-modules ## Make the page's charting library anew, of the version that contrib/page/package-lock.json pins
	contrib/page/library $(CURDIR)/bin/page/node_modules

.PHONY: test-lab
test-lab: image ## Tests on several Docker hosts. HOSTS=trixie, or a list for a mixed cluster
	contrib/setup/packages $(TEST_PACKAGES)
	PACKAGES="$(BUILD_PACKAGES)" contrib/release/previous $(HOSTS)
	$(call gotestsum,lab,testname) -tags lab -count=1 -timeout 60m -parallel 2 ./internal/lab/...

.PHONY: test-short
test-short: image ## The short form of test-lab. HOSTS=trixie, or a list for a mixed cluster
	contrib/setup/packages $(TEST_PACKAGES)
	$(call gotestsum,short,testname) -tags lab -count=1 -timeout 20m -parallel 2 -run '$(SHORT)' ./internal/lab

.PHONY: test-mixed
test-mixed: ## The short form of test-lab on hosts of two Debians, their engines and their releases of DPDK
	@$(MAKE) --no-print-directory test-short HOSTS=$(MIXED)

.PHONY: test-platforms
test-platforms: engine ## Build, lint and test on Debian 12 to 14 and with engines 20.10 to 29; how it went in a last line RESULT
	contrib/setup/packages $(LAB_PACKAGES) $(TEST_PACKAGES)
	PACKAGES="$(BUILD_PACKAGES) $(LAB_PACKAGES) $(TEST_PACKAGES) $(TEST_SERVICES) $(LINT_PACKAGES)" contrib/ci/platforms

.PHONY: test-cards
test-cards: build ## Network cards as QEMU emulates them, in the hands of two guests' daemons
	contrib/setup/packages $(CARDS_PACKAGES)
	contrib/cards/build bin/cards
	contrib/cards/run bin/cards

.PHONY: soak
soak: soak-unit soak-datapath soak-esp sim test-cards soak-lab test-platforms ## The long forms of the tests, for an hour or two. SCHEDULES=3000 RUNS=1000000

.PHONY: soak-unit
soak-unit: build-packages
	contrib/setup/packages $(LAB_PACKAGES) $(TEST_PACKAGES)
	contrib/setup/unstarted $(TEST_SERVICES)
	go test -count=1 -timeout 2h -tags soak $$(go list ./... | grep -v /datapath)
	go test -count=1 -timeout 2h -tags soak -run TestRandomSchedules ./discovery ./overlay/ipam -rapid.checks $(SCHEDULES)

.PHONY: soak-datapath
soak-datapath: build-packages
	contrib/setup/packages $(LAB_PACKAGES) $(TEST_PACKAGES) $(FUZZ_PACKAGES) $(GUEST_PACKAGES) libssl-dev
	go test -race -tags soak -timeout 60m ./datapath/...
	$(sanitized) go test -asan -tags dptest,soak -timeout 60m ./datapath/...
	ASAN_OPTIONS=detect_leaks=0 CGO_CFLAGS='-g -O2 -DDP_AEAD_OPENSSL' CGO_LDFLAGS=-lcrypto go test -asan -tags dptest -run ESP ./datapath/dp # arm64's cipher
	contrib/fuzz/run fuzz $(RUNS)

.PHONY: soak-esp
soak-esp: build-packages ## Encrypted networks and a Linux kernel's IPsec, both ways; how it went in a last line RESULT
	contrib/setup/packages $(LAB_PACKAGES) $(TEST_PACKAGES) $(GUEST_PACKAGES)
	set -o pipefail; go test -count=1 -tags soak -run '^TestESPWithLinux$$' -v ./datapath | sed '/^RESULT/{h;d};$${p;x}'

.PHONY: soak-lab
soak-lab: image
	contrib/setup/packages $(TEST_PACKAGES)
	contrib/release/previous
	go test -count=1 -timeout 3h -tags lab,soak -parallel 2 -v ./internal/lab/...

.PHONY: bench-pipeline
bench-pipeline: build-packages ## One core: VXLAN in Mpps beside OVS-DPDK, grout and testpmd; encrypted beside the cipher. FLOWS=1024 MACS=64 SIZE=64
	contrib/setup/packages $(PIPELINE_PACKAGES)
	go build -o bin/bench-pipeline ./contrib/bench/pipeline
	go test -c -tags dptest -o bin/bench-esp ./datapath/dp
	contrib/bench/pipeline/newer bin/newer
	contrib/bench/pipeline/compare bin/bench-pipeline bin/bench-esp bin/newer $(FLOWS) $(MACS) $(SIZE)

.PHONY: bench-native
bench-native: build-packages ## One core: vhost-user and memif containers in Mpps, testpmd on another core, beside OVS-DPDK. FLOWS=1024 MACS=64 SIZE=64
	contrib/setup/packages $(PIPELINE_PACKAGES)
	go build -o bin/bench-pipeline ./contrib/bench/pipeline
	contrib/bench/pipeline/native bin/bench-pipeline $(FLOWS) $(MACS) $(SIZE)

.PHONY: bench-hosts
bench-hosts: build ## Container to container, alone and beside floods, and beside Docker's own overlay. SECONDS=4 a measurement
	contrib/setup/packages $(HOSTS_PACKAGES)
	go run ./contrib/bench/hosts -seconds $(SECONDS)

.PHONY: bench-node
bench-node: image ## One node: idle CPU and memory with and without endpoints, starts of containers, addresses, kills, joins
	contrib/setup/packages $(NODE_PACKAGES)
	go run ./contrib/bench/node

.PHONY: bench-dns
bench-dns: image ## Queries a second of one container, for a name on another host, beside Docker's server for one on its own
	go run ./contrib/bench/dns

.PHONY: bench-model
bench-model: build-packages ## Instructions of a worker on a packet, with 1 to 4 workers and 1 to 1024 ports, by callgrind
	contrib/setup/packages valgrind
	contrib/bench/model/run

.PHONY: bench
bench: ## Run all four benchmarks, and write the tables of docs/performance.md anew
	contrib/bench/record

.PHONY: sim
sim: ## A simulated cluster: how fast it agrees, in a last line RESULT. NODES=1000 ENDPOINTS=100000
	go test -c -o bin/discovery.test ./discovery
	bin/discovery.test -nodes $(NODES) -endpoints $(ENDPOINTS)

.PHONY: fuzz
fuzz: build-packages ## Fuzz the C code, and keep what is new in contrib/fuzz/corpus; RUNS=1000000 a target
	contrib/setup/packages $(FUZZ_PACKAGES)
	contrib/fuzz/run fuzz $(RUNS)

.PHONY: xdp
xdp: ## Compile datapath/xdp/filter.c anew; the object is part of the repository
	contrib/setup/packages $(XDP_PACKAGES)
	clang -O2 -g -Wall -Wextra -Werror -target bpf -I/usr/include/$$(gcc -print-multiarch) -c datapath/xdp/filter.c -o datapath/xdp/filter.o
	llvm-strip -g datapath/xdp/filter.o

.PHONY: fuzz-gossip
fuzz-gossip: ## Fuzz what decodes gossip and the node's files, and keep what is new in testdata; TIME=2m a target
	contrib/fuzz/gossip $(TIME)

.PHONY: lint
lint: build-packages ## Look for what the compilers let pass
	@contrib/setup/packages $(LINT_PACKAGES)
	@$(MAKE) --no-print-directory --jobs=2 --output-sync lint-go lint-shell lint-c lint-layers

.PHONY: lint-go
lint-go:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt -w on: $$unformatted" >&2; exit 1; fi
	go vet -tags dptest,lab,page,soak ./...
	go run $(STATICCHECK) -tags dptest,lab,page,soak ./...

.PHONY: lint-shell
lint-shell:
	shellcheck --external-sources --source-path=SCRIPTDIR $$(git grep -lI -e '^#!.*sh$$' -e '^# shellcheck shell=')
	@left=$$(git grep -lIe 'trap .* EXIT' -- contrib | xargs grep -l '^#!/bin/sh$$' | xargs -r grep -L 'trap .* INT' || :); \
	[ -z "$$left" ] || { echo "only bash runs a trap on EXIT when a signal ends the script: $$left" >&2; exit 1; }

.PHONY: lint-c
lint-c:
	$(CC) -D_GNU_SOURCE -std=gnu11 -O2 -fsyntax-only -Wall -Wextra -Werror $$(pkg-config --cflags libdpdk) datapath/dp/*.c
	$(CC) -DDP_AEAD_OPENSSL -std=gnu11 -O2 -fsyntax-only -Wall -Wextra -Werror datapath/dp/pure_aead_openssl.c
	clang-format --dry-run -Werror $$(git ls-files '*.[ch]')
	ls datapath/dp/*.c | grep -v harness_ | xargs -P2 -I{} clang-tidy --quiet {} -- -D_GNU_SOURCE -std=gnu11 $$(pkg-config --cflags libdpdk)

.PHONY: lint-layers
lint-layers:
	contrib/lint/layers

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin

.PHONY: build-packages
build-packages:
	@contrib/setup/packages $(BUILD_PACKAGES)

.PHONY: engine
engine:
	@contrib/setup/engine
