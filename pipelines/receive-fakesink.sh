#!/bin/sh
# Receives and decodes a camera of a room, and prints the frames per second. Needs no display.
#
#   receive-fakesink.sh --room living_room
#   receive-fakesink.sh --room living_room --frames 300     exits with success after 300 frames
#
# Options:
#   --sender ID       sender to receive (SENDER, the first one in the room)
#   --latency MS      size of the jitter buffer (LATENCY, 50)
#   --frames N        exit after N frames (FRAMES, no limit)

set -eu
. "$(dirname "$0")/lib/common.sh"
SENDER=${SENDER:-} LATENCY=${LATENCY:-50} FRAMES=${FRAMES:--1}
while [ $# -gt 0 ]; do
    used=2
    case $1 in
        --frames) FRAMES=$(value "$@") ;;
        *) receiver_option "$@" ;;
    esac
    shift "$used"
done

need_room_element roomwebrtcsrc
need decodebin gstreamer1.0-plugins-base
need avdec_h264 gstreamer1.0-libav
need fpsdisplaysink gstreamer1.0-plugins-bad
room=$(room_properties)
launch -v roomwebrtcsrc $room latency="$LATENCY" ! decodebin \
    ! fpsdisplaysink text-overlay=false sync=false video-sink="fakesink num-buffers=$FRAMES"
