#!/bin/sh
# Called by meson.build: builds crates with cargo, and copies the results to where meson expects them.
#
#   meson-cargo.sh CARGO SOURCE_ROOT BUILD_ROOT OUTPUT_DIRECTORY CRATE... -- FILE...
set -eu
cargo=$1 source=$2 build=$3 output=$4
shift 4
: "${CARGO_TARGET_DIR:=$build/cargo}"
export CARGO_TARGET_DIR
crates=
while [ "$1" != -- ]; do
    crates="$crates -p $1"
    shift
done
shift
# Not quoted, because each crate is two arguments.
"$cargo" build --release --locked --manifest-path "$source/Cargo.toml" $crates
for file in "$@"; do
    cp "$CARGO_TARGET_DIR/release/$file" "$output/"
done
