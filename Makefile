# Bare `make` prints what each command does.
SHELL := bash
.DEFAULT_GOAL := help

# Every recipe runs with the project's tools, installed on first use.
with_tools = set -euo pipefail; environment=$$(scripts/setup --env); eval "$$environment";
with_linters = set -euo pipefail; environment=$$(scripts/setup --env --lint); eval "$$environment";
with_audit = set -euo pipefail; environment=$$(scripts/setup --env --audit); eval "$$environment";
with_browser = set -euo pipefail; environment=$$(scripts/setup --env --browser); eval "$$environment";
wasm = --target wasm32-wasip1
# The folder of the application that is built, served or deployed. One from the environment may be meant for something else.
app = $(if $(findstring command line,$(origin APP)),$(APP))

.PHONY: help serve check test soak bench build deploy undeploy env lint audit msrv fuzz
help: ## Print this
	@echo "fanout-edge: real-time WebSockets at Fastly's edge"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: build ## Run the service on this machine, with Pushpin (PORT=8000: another port; WATCH=1: again when a file changes)
	@APP="$(app)" scripts/serve

check: ## Check format, lints and the native tests, in seconds once built
	@$(with_tools) \
	cargo fmt --check; \
	cargo clippy --workspace --all-targets -- -D warnings; \
	cargo test --quiet --lib --bins --test it --package fanout-edge --package chat

test: ## Run all tests: native, in wasm under Viceroy, end to end (SUITES="client deploy": only these)
	@$(with_browser) scripts/test $(SUITES)

soak: build ## Test load, hostile requests and faults in full (10 minutes or more); writes docs/soak.md
	@$(with_tools) \
	cargo build --release $(wasm) --example handlers; \
	SOAK=full cargo test --release --test soak -- --include-ignored

bench: build ## Measure against other programs, in one run (10 minutes; BASE=COMMIT: that version, too); writes docs/benchmark.md and its chart
	@$(with_tools) \
	cargo build --release $(wasm) --manifest-path benches/peers/rust/Cargo.toml; \
	command -v npm >/dev/null || { echo "make bench needs npm: install Node.js" >&2; exit 1; }; \
	npm ci --prefix benches/peers/js --no-audit --no-fund --loglevel=error; \
	npm run build --prefix benches/peers/js; \
	if [ -n "$(BASE)" ]; then \
		base=$$(mktemp -d); trap 'git worktree remove --force "$$base"' EXIT; git worktree add --quiet --detach "$$base" "$(BASE)"; \
		cargo build --release $(wasm) --bin fanout-edge --manifest-path "$$base/Cargo.toml" --target-dir target/base; \
		export BASE_MODULE="$$PWD/target/base/wasm32-wasip1/release/fanout-edge.wasm"; \
	fi; \
	cargo bench --bench edge

# Cargo first, as the CLI does not show its progress; its own run then finds everything built.
build: ## Build bin/main.wasm and the package in pkg/ (APP=../my-chat: those of an application)
	@$(with_tools) cd "$(or $(app),.)"; \
	bash -c "$$(sed -n 's/^ *build = "\(.*\)"/\1/p' fastly.toml)"; \
	fastly compute build --non-interactive --quiet

# A name from the environment may be meant for something else.
named = $(if $(findstring command line,$(origin NAME)),,$(error NAME is missing: make $@ NAME=my-chat))

deploy: ## Deploy to Fastly, or update: make deploy NAME=my-chat (docs/deploy.md)
	@$(named)$(MAKE) --no-print-directory build
	@$(with_tools) APP="$(app)" scripts/deploy

undeploy: ## Show what `make deploy` has made, and delete it after a yes: make undeploy NAME=my-chat
	@$(named)$(with_tools) APP="$(app)" scripts/deploy --remove

env: ## Print the lines for a shell with the project's tools: eval "$(make -s env)"
	@scripts/setup --env

lint: ## Check format, lints for both targets, documentation, packaging and scripts; warnings are errors
	@$(with_linters) \
	cargo fmt --check; \
	cargo clippy --workspace --all-targets -- -D warnings; \
	cargo clippy --lib --bins --test it --example handlers $(wasm) --package fanout-edge --package chat -- -D warnings; \
	for features in '' jwt tickets; do cargo clippy --quiet --lib --no-default-features --features "$$features" -- -D warnings; done; \
	cargo check --quiet --manifest-path fuzz/Cargo.toml --no-default-features --target-dir target; \
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --lib; \
	cargo package --quiet --allow-dirty; \
	shellcheck -x scripts/setup scripts/serve scripts/deploy scripts/probe scripts/test examples/chat/run .ci/run

# The database of advisories is fetched from GitHub, which not every machine reaches.
audit: ## Check licences, sources and duplicates of dependencies (deny.toml), in CI advisories, too
	@$(with_audit) \
	cargo deny --all-features check bans licenses sources; \
	if [ -n "$${CI:-}" ]; then cargo deny --all-features check advisories; fi

msrv: ## Check with the oldest Rust that Cargo.toml allows (needs rustup)
	rustup run "$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)" cargo check --locked

fuzz: ## Fuzz each target for a minute (needs rustup with a nightly, cargo-fuzz and a C++ compiler)
	cd fuzz && for target in fuzz_targets/*.rs; do \
		target=$$(basename "$$target" .rs); mkdir -p "corpus/$$target"; \
		cargo +nightly fuzz run "$$target" "corpus/$$target" "seeds/$$target" -- -max_total_time=60 || exit 1; \
	done
