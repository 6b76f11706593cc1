# The habits of this project. Every target does its own set-up.

.POSIX:
.PHONY: demo test lint bench generate

# Runs the whole main job on a throw-away server.
demo:
	scripts/prerequisites
	cargo run --release -- demo

# Passes the tests; PG=15 … PG=18 chooses the PostgreSQL to test with.
test:
	scripts/prerequisites
	if [ -n "$(PG)" ]; then TENANTCTL_PG_BIN="$$(scripts/postgres $(PG))" && export TENANTCTL_PG_BIN; fi && cargo test

# What a reviewer need not say: format, lints with and without the terminal, documentation, dependencies.
lint:
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --no-default-features --lib -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --lib
	if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi

# Measures; figures and method are in docs/benchmarks.md.
bench:
	scripts/prerequisites
	cargo bench --bench start_up --bench rls --bench usage

# Everything that is made from something else: the cache of checked statements, the completion scripts.
generate:
	scripts/sqlx-cache
	cargo build
	for shell in bash:tenantctl.bash zsh:_tenantctl fish:tenantctl.fish powershell:_tenantctl.ps1 elvish:tenantctl.elv; do \
		target/debug/tenantctl completions "$${shell%%:*}" >"completions/$${shell##*:}" || exit 1; \
	done
