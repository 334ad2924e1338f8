#!/bin/sh
# Shows a camera of a room in a window.
#   receive-display.sh --room living_room
#
# Options:
#   --sender ID       which sender (SENDER, the first that is there)
#   --latency MS      jitter buffer: less is faster, more forgives bad networks (LATENCY, 50)

set -eu
. "$(dirname "$0")/lib/common.sh"
SENDER=${SENDER:-} LATENCY=${LATENCY:-50}
while [ $# -gt 0 ]; do
    receiver_option "$@"
    shift "$used"
done

need_room_element roomwebrtcsrc
need decodebin gstreamer1.0-plugins-base
need avdec_h264 gstreamer1.0-libav
need autovideosink gstreamer1.0-plugins-good
if [ "$dry_run" = 0 ]; then
    [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] ||
        die 'there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set); receive-fakesink.sh needs none'
    # autovideosink itself takes one of these.
    exists xvimagesink || exists ximagesink || exists glimagesink || exists waylandsink ||
        need ximagesink gstreamer1.0-x
fi
launch roomwebrtcsrc ROOM_PROPERTIES latency="$LATENCY" ! decodebin ! videoconvert ! autovideosink
