#!/bin/sh
# Shows a camera of a room in a window.
#
#   receive-display.sh --room living_room
#   receive-display.sh --room living_room --sender camera --latency 200
#
# Options:
#   --sender ID       sender to show (SENDER, the first one in the room)
#   --latency MS      size of the jitter buffer; raise it for lossy networks (LATENCY, 50)

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
        die 'there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set); receive-fakesink.sh works without one'
    # autovideosink uses one of these.
    exists xvimagesink || exists ximagesink || exists glimagesink || exists waylandsink ||
        need ximagesink gstreamer1.0-x
fi
room=$(room_properties)
launch roomwebrtcsrc $room latency="$LATENCY" ! decodebin ! videoconvert ! autovideosink
