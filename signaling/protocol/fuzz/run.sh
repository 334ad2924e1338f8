#!/bin/sh
# Runs every fuzz target of the protocol for SECONDS each (20 if not said) and fails if one of them finds something.
# Stable Rust will do: RUSTC_BOOTSTRAP lets it take the flags that cargo-fuzz needs.
set -eu

seconds=${1:-20}
cd "$(dirname "$0")"
target_dir=$(cd ../../.. && pwd)/target/fuzz
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$target_dir"

cargo fuzz --version >/dev/null 2>&1 || env -u RUSTC_BOOTSTRAP cargo install cargo-fuzz --version '^0.13' --locked

cargo fuzz build
for target in $(cargo fuzz list); do
    echo "fuzzing $target for $seconds s"
    # What earlier runs found worth keeping, and where to start from at first.
    corpus="$target_dir/corpus/$target"
    mkdir -p "$corpus"
    seeds="seeds/$target"
    [ -d "$seeds" ] || seeds=
    # shellcheck disable=SC2086 # no seeds, no argument
    cargo fuzz run "$target" "$corpus" $seeds -- \
        -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1
done
