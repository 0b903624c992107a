#!/usr/bin/env bash
# Licences and advisories of all dependencies with cargo-deny, where it is installed or can be.
#
# Licences and sources are checked without a network. Advisories need the advisory database: they are
# checked where a copy of it is on disk, and otherwise the reason is printed.
set -u
cd "$(dirname "$0")/.." || exit 1
if ! cargo deny --version >/dev/null 2>&1; then
    echo "licences: skipped, cargo-deny is not installed (cargo install cargo-deny --locked)"
    exit 0
fi
cargo deny --offline --log-level error check licenses bans sources || exit 1
if [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" ]; then
    cargo deny --offline check advisories || exit 1
else
    echo "advisories: skipped, there is no copy of the advisory database on this machine"
fi
