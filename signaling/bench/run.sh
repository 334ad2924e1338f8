#!/usr/bin/env bash
# Builds room-signaling and the benchmark, and compares the server with others on this machine. Takes some minutes, and
# needs two idle processors. The exit status is 1 if a goal is missed.
#
#   signaling/bench/run.sh                       compare with the Python server
#   signaling/bench/run.sh --with-gst            and with gst-webrtc-signalling-server, which it installs into .cache
#   signaling/bench/run.sh --rows relay,memory   with other options of `room-bench --help`
set -euo pipefail
. "$(dirname "$0")/../../scripts/common.sh"

gst_version=0.15.4
gst_root="$root/.cache/gst-signalling-$gst_version"

# Neither server uses TLS, so the choice of the cryptography does not matter.
install_gst() {
    if [ -x "$gst_root/bin/gst-webrtc-signalling-server" ]; then return; fi
    say "Installing gst-plugin-webrtc-signalling $gst_version from crates.io into .cache (builds for some minutes, once)"
    cargo install -q --locked --root "$gst_root" --no-default-features --features rustls-ring \
        "gst-plugin-webrtc-signalling@$gst_version"
}

arguments=()
while [ $# -gt 0 ]; do
    case "$1" in
        --with-gst)
            install_gst
            arguments+=(--gst "$gst_root/bin/gst-webrtc-signalling-server")
            ;;
        -h|--help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *) arguments+=("$1") ;;
    esac
    shift
done

cd "$root"
"$python" -c 'import websockets' 2>/dev/null || die "the Python environment is missing: scripts/setup.sh test makes it"
cargo build -q --release --locked -p room-signaling -p room-bench
built="${CARGO_TARGET_DIR:-$root/target}/release"
exec "$built/room-bench" --server "$built/room-signaling" --bare "$built/room-bare" --python "$python" ${arguments[@]+"${arguments[@]}"}
