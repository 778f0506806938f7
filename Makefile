# Tare. `make` lists the targets; each is a line or two of go that you could type.

export CGO_ENABLED = 0
VERSION ?= $(shell cat VERSION)
COMMIT  ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# The commit's time: one commit gives one program.
BUILT   ?= $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null)
LDFLAGS  = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.built=$(BUILT)
GOBUILD  = go build -trimpath -ldflags "$(LDFLAGS)"
# Two test packages at a time: they share the host's kernel objects and two cores.
GOTEST   = go test -p 2 -timeout 20m
# What has fall-backs for kernels from 5.10 on; TARE_PROBE=5.10 takes them.
OLD_KERNEL = ./internal/linux/mount ./internal/layer/overlay ./internal/runtime

.PHONY: help
help: ## list the targets
	@awk -F': .*## ' '/^[a-z-]+: .*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: hello ## build the programs into bin/
	$(GOBUILD) -o bin/ ./cmd/...
	go build -trimpath -ldflags "-s -w -E main.start" -o bin/tare-init ./cmd/tare-init

# The embedded image's only program; tared embeds it, so it comes first.
.PHONY: hello
hello:
	$(GOBUILD) -o internal/image/hello/tare-hello ./cmd/tare-hello

.PHONY: man
man: ## write the manual pages into bin/man/
	rm -rf bin/man
	go run -tags man -ldflags "$(LDFLAGS)" ./cmd/tare man bin/man/man1

# Where Debian's packages put things: DESTDIR= is for those who make one.
PREFIX ?= /usr/local
SHARE   = $(DESTDIR)$(PREFIX)/share
.PHONY: install
install: build man ## install programs, units, manual pages and completions below PREFIX (/usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system $(SHARE)/man/man1 $(SHARE)/bash-completion/completions $(SHARE)/zsh/vendor-completions $(SHARE)/fish/vendor_completions.d
	install bin/tare bin/tared bin/tare-build bin/tare-init bin/tare-keeper bin/tare-runtime bin/tare-union $(DESTDIR)$(PREFIX)/bin
	install -m 644 contrib/systemd/tare* $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -m 644 bin/man/man1/*.1 $(SHARE)/man/man1
	bin/tare completion bash >$(SHARE)/bash-completion/completions/tare
	bin/tare completion zsh >$(SHARE)/zsh/vendor-completions/_tare
	bin/tare completion fish >$(SHARE)/fish/vendor_completions.d/tare.fish

.PHONY: try
try: build ## run a container from the embedded image and one from /, then clean up
	test/try.sh bin

.PHONY: run
run: build ## run an engine on a private socket until Ctrl-C; prints DOCKER_HOST
	test/private.sh bin

.PHONY: deps
deps: ## install what the tests need (Debian)
	test/deps.sh

.PHONY: test
test: deps build ## install what the tests need and run them all
	CGO_ENABLED=1 $(GOTEST) -race ./... 2>&1 | test/summary.sh unit
	$(GOTEST) -tags root ./... 2>&1 | test/summary.sh root
	TARE_PROBE=5.10 $(GOTEST) -tags root $(OLD_KERNEL) 2>&1 | test/summary.sh "root as on 5.10"
	$(GOTEST) -tags "root failpoint" -short ./internal/failpoint/... ./test/crash/... 2>&1 | test/summary.sh crash
	$(GOTEST) -tags "root failpoint" -run '^(TestSuite|TestChanges)$$/^KillsLeaveOldOrNew$$' ./internal/layer/... 2>&1 | test/summary.sh "layers, killed"

.PHONY: unit-test
unit-test: ## the tests that need neither root nor installed programs
	$(GOTEST) ./...

.PHONY: root-test
root-test: build ## the tests that need root; in namespaces of their own
	$(GOTEST) -tags root ./...
	TARE_PROBE=5.10 $(GOTEST) -tags root $(OLD_KERNEL)

.PHONY: reference-test
reference-test: build ## the terminal sessions and the bad requests of test/script with Debian's dockerd: half an hour
	TARE_REFERENCE=1 $(GOTEST) -timeout 40m -tags root -run 'Reference$$' ./test/script/...

.PHONY: client-test
client-test: build ## a day's work of other people's clients: docker, compose, buildx, libraries and more
	test/clients/get.sh bin/clients
	TARE_CLIENTS=$(CURDIR)/bin/clients $(GOTEST) -tags root -run '^TestClients$$' ./test/script/... 2>&1 | test/summary.sh clients

.PHONY: storage-test
storage-test: build ## all terminal sessions on each storage driver; the drivers' suites killed at each point, and raced
	TARE_STORAGE=all $(GOTEST) -tags root -run '^TestStorageDrivers$$' ./test/script/...
	$(GOTEST) -tags "root failpoint" -run '^(TestSuite|TestChanges)$$/^KillsLeaveOldOrNew$$' ./internal/layer/...
	CGO_ENABLED=1 $(GOTEST) -race -tags root -run '^TestSuite$$/^(AllAtOnce|DiffWhileTheContainerWorks)$$' ./internal/layer/...

.PHONY: crash-test
crash-test: build ## kill the engine and the keeper at every named point
	$(GOTEST) -tags "root failpoint" -v ./test/crash/...

.PHONY: kernel-test
kernel-test: build ## the root tests on Debian's 6.1 kernel (cgroup v2, AppArmor, systemd) in qemu
	test/kernel/run.sh

.PHONY: kernel-short
kernel-short: build ## the same in a few minutes: a choice of packages and tests, one boot
	test/kernel/run.sh -s

.PHONY: bench
bench: build ## compare start times with the floor, runc and Debian's dockerd
	go run ./test/bench

.PHONY: soak
soak: build ## the counted runs (kills, cycles, fuzzing); about an hour
	test/soak.sh

.PHONY: fmt
fmt: ## format
	gofmt -w .

.PHONY: lint
lint: hello ## formatting, vet, staticcheck, the table of levels
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	go vet ./...
	go vet -tags "root failpoint" ./...
	go vet -tags man ./cmd/tare
	go tool staticcheck ./...
	go tool staticcheck -checks U1000 -tags "root failpoint" ./...
	go test -run 'TestImportsGoDown|TestOnlyLinux|TestCommandLineIsLean|TestEveryPackage' .

.PHONY: clean
clean: ## remove what build made
	rm -rf bin internal/image/hello/tare-hello
