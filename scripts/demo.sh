#!/usr/bin/env bash
# Installs what is missing, builds, and runs a room: server, sender, viewer page, receiver. Ctrl-C stops all of them.
#
#   scripts/demo.sh                        runs until Ctrl-C
#   scripts/demo.sh --seconds 10           stops after 10 seconds, and fails if no pictures arrived
#   scripts/demo.sh --yes                  installs without asking
#   scripts/demo.sh --recording walk.bag   uses a RealSense recording as the camera
#   scripts/demo.sh --no-build             uses the programs of an earlier build
#
# The camera is a RealSense camera if one is plugged in, otherwise a V4L2 camera, otherwise a test picture.
set -euo pipefail
. "$(dirname "$0")/common.sh"

room=living_room
build=1 seconds='' setup_arguments=() realsense='' recording=''
crates=(-p room-signaling -p gst-plugin-roomwebrtc)
if grep -qs RealSense /sys/bus/usb/devices/*/product; then realsense=realsensesrc; fi
while [ $# -gt 0 ]; do
    case "$1" in
        --seconds) seconds=${2:?--seconds needs a number}; shift ;;
        --no-build) build=0 ;;
        -y|--yes) setup_arguments+=(--yes) ;;
        --recording)
            recording=$(realpath -e "${2:?--recording needs a file}")
            realsense="realsensesrc recording-location='$recording' loop=true"
            shift
            ;;
        -h|--help) help; exit 0 ;;
        *) die "unknown argument: $1; see --help" ;;
    esac
    shift
done

if [ -n "$realsense" ]; then
    setup_arguments+=(--realsense)
    crates+=(-p gst-plugin-realsense)
fi
"$root/scripts/setup.sh" demo ${setup_arguments[@]+"${setup_arguments[@]}"}
if [ -n "$realsense" ]; then use_librealsense; fi
if [ "$build" = 1 ]; then
    say "Building (the first build takes minutes)"
    cargo build -q --release --locked --manifest-path "$root/Cargo.toml" "${crates[@]}"
fi
binaries="${CARGO_TARGET_DIR:-$root/target}/release"

work=$(mktemp -d)
use_plugins "$binaries" "$work/registry.bin"
started=()

# Stops the programs that were started, newest first, and waits for them.
clean_up() {
    trap '' INT TERM
    local i
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do
        kill -TERM -- "-${started[i]}" 2>/dev/null || continue
        for _ in $(seq 50); do
            kill -0 -- "-${started[i]}" 2>/dev/null || continue 2
            sleep 0.1
        done
        kill -KILL -- "-${started[i]}" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'say; say stopping; exit 130' INT
trap 'exit 143' TERM
set -m # Each background job gets its own process group.

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

port=8765
while listening "$port"; do
    say "Port $port is in use by another program; trying the next one."
    port=$((port + 1))
done
uri="ws://127.0.0.1:$port"

"$binaries/room-signaling" serve --listen "127.0.0.1:$port" >"$work/server.log" 2>&1 &
server=$!
started+=("$server")
for _ in $(seq 100); do
    if listening "$port"; then break; fi
    kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; die "the signaling server did not start"; }
    sleep 0.1
done

/usr/bin/python3 "$root/scripts/demo.py" send "$uri" "$room" ${realsense:+realsense "$recording"} >"$work/sender.log" 2>&1 &
sender=$!
started+=("$sender")

picture='videotestsrc is-live=true'
if compgen -G '/dev/video*' >/dev/null; then picture=v4l2src; fi
if [ -n "$realsense" ]; then picture=$realsense; fi
elsewhere=''
if [ "$port" != 8765 ]; then elsewhere=" signaling-uri=$uri"; fi
cat <<TEXT

A camera is in the room $room:
    $picture ! x264enc ! roomwebrtcsink room=$room$elsewhere

Watch it in a browser:
    http://127.0.0.1:$port/?room=$room
or with GStreamer:
    export GST_PLUGIN_PATH=$binaries
    gst-launch-1.0 roomwebrtcsrc room=$room$elsewhere ! decodebin ! autovideosink

The demo also runs a receiver, which reports what it gets${seconds:+, for $seconds s}. Ctrl-C stops everything:
TEXT

/usr/bin/python3 "$root/scripts/demo.py" watch "$uri" "$room" ${seconds:+"$seconds"} &
watcher=$!
started+=("$watcher")
status=0
# Continues when the watcher ends after its time, or when any of the programs fails.
wait -n "$watcher" "$sender" "$server" || status=$?
if kill -0 "$watcher" 2>/dev/null; then
    cat "$work/sender.log" "$work/server.log" >&2
    die "the sender or the server ended early; see its log above"
fi
if [ "$status" != 0 ]; then cat "$work/sender.log" >&2; fi
exit "$status"
