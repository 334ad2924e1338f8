#!/bin/sh
# Called by meson.build: builds with cargo and puts the results where meson looks for them.
#   meson-cargo.sh CARGO SOURCE_ROOT BUILD_ROOT OUTPUT_DIRECTORY
set -eu
cargo=$1 source=$2 build=$3 output=$4
: "${CARGO_TARGET_DIR:=$build/cargo}"
export CARGO_TARGET_DIR
"$cargo" build --release --locked --manifest-path "$source/Cargo.toml" -p gst-plugin-roomwebrtc -p room-signaling
cp "$CARGO_TARGET_DIR/release/libgstroomwebrtc.so" "$CARGO_TARGET_DIR/release/room-signaling" "$output/"
