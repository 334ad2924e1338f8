#!/bin/sh
# Receives and decodes a camera of a room and prints how many frames per second come, showing nothing.
#   receive-fakesink.sh --room living_room
#   receive-fakesink.sh --room living_room --frames 300     ends with success after 300 frames
#
# Options:
#   --sender ID       which sender (SENDER, the first that is there)
#   --latency MS      jitter buffer (LATENCY, 50)
#   --frames N        end after N frames (FRAMES, goes on)

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
launch -v roomwebrtcsrc ROOM_PROPERTIES latency="$LATENCY" ! decodebin \
    ! fpsdisplaysink text-overlay=false sync=false video-sink="fakesink num-buffers=$FRAMES"
