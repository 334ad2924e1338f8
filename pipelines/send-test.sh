#!/bin/sh
# Sends a moving test picture into a room.
#
#   send-test.sh --room living_room            uses the server at 127.0.0.1:8765
#   send-test.sh --room living_room --serve    runs a server; open http://127.0.0.1:8765/?room=living_room
#
# Options:
#   --codec h264|vp8  codec of the stream (CODEC, h264)
#   --size WxH        size of the picture (SIZE, 1280x720)
#   --fps N           frames per second (FPS, 30)
#   --serve           run a signaling server inside the sender
#   --frames N        exit after N frames (FRAMES, no limit)

set -eu
. "$(dirname "$0")/lib/common.sh"
CODEC=${CODEC:-h264} SIZE=${SIZE:-1280x720} FPS=${FPS:-30} FRAMES=${FRAMES:--1}
serve=''
while [ $# -gt 0 ]; do
    used=2
    case $1 in
        --codec) CODEC=$(value "$@") ;;
        --size) SIZE=$(value "$@") ;;
        --fps) FPS=$(value "$@") ;;
        --frames) FRAMES=$(value "$@") ;;
        --serve) serve=run-signaling-server=true used=1 ;;
        *) common_option "$@" ;;
    esac
    shift "$used"
done

need_room_element roomwebrtcsink
need videotestsrc gstreamer1.0-plugins-base
choose_encoder "$CODEC"
raw=$(raw_video "$SIZE" "$FPS")
room=$(room_properties)
launch -e videotestsrc is-live=true pattern=ball num-buffers="$FRAMES" \
    ! "$raw" ! $encoder ! roomwebrtcsink $room $serve
