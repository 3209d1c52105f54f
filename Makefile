# `make help` lists what there is.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
IMAGE ?= reconciled:$(VERSION)
# A package's tests may take this long; the slowest start whole chains of servers.
TEST_TIMEOUT ?= 60m
FUZZTIME ?= 10m
CA_CERTIFICATES ?= /etc/ssl/certs/ca-certificates.crt

# The version is handed over below, so builds need not ask git a second time (it
# refuses where another user owns the checkout).
export GOFLAGS ?= -buildvcs=false

comma := ,

SCRIPTS := scripts/deps scripts/image-test .ci/run

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: deps build ## show it all working on private servers; ARGS are `reconciled demo`'s
	@bin/reconciled demo $(ARGS)

.PHONY: runbook
runbook: deps build ## walk the operators' runbook, with each of its incidents planted
	@bin/reconciled demo --runbook

.PHONY: test
test: deps lint ## everything that must hold: lint, then all tests with the race detector, the largest without
	go test -race -timeout $(TEST_TIMEOUT) ./...
	go test -timeout $(TEST_TIMEOUT) -run HundredThousand ./cmd/reconciled

.PHONY: bench
bench: deps ## measure what reconciliation costs; BENCH=full also for ten million events
	go run ./internal/bench -n $(if $(filter full,$(BENCH)),1000000$(comma)10000000,1000000) $(ARGS)

.PHONY: bench-heal
bench-heal: deps ## measure what healing costs; BENCH=full also for ten million events
	go run ./internal/bench -n $(if $(filter full,$(BENCH)),1000000$(comma)10000000,1000000) $(ARGS) heal

.PHONY: lint
lint: ## go vet, gofumpt, staticcheck, and shellcheck where it is installed
	go vet ./...
	@unformatted=$$(go tool gofumpt -l .) && if [ -n "$$unformatted" ]; then \
		echo "not formatted, run \`make fmt\`:"; echo "$$unformatted"; exit 1; fi
	go tool staticcheck ./...
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); fi

.PHONY: fmt
fmt: ## format all Go files
	go tool gofumpt -w .

.PHONY: build
build: ## the static program, into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/reconciled ./cmd/reconciled

.PHONY: image
image: build ## a container image around that program, as $(IMAGE)
	cp $(CA_CERTIFICATES) bin/ca-certificates.crt
	docker build --file deploy/Dockerfile --tag $(IMAGE) bin

.PHONY: image-test
image-test: ## build the image with a private Docker daemon (as root) and run it
	scripts/image-test

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file target; do \
		go test -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; \
	done

.PHONY: deps
deps: ## install the servers and tools that tests and demo need (Debian)
	@scripts/deps

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
