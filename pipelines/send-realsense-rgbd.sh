#!/bin/sh
# Sends color and depth of a RealSense camera into a room, as two streams of one sender. Depth is sent as colors, aligned to
# the view of the color camera.
#
#   send-realsense-rgbd.sh --room living_room
#   send-realsense-rgbd.sh --room living_room --align none --size 1280x720
#
# Options:
#   --align color|none  align depth to the color camera, or not (ALIGN, color)
#   --serial NUMBER   serial number of the camera (SERIAL, the first camera); see `gst-device-monitor-1.0 Video/Source`
#   --recording FILE  play a recording (.bag) instead of a camera (RECORDING)
#   --loop            repeat the recording
#   --size WxH        size of the picture (SIZE, chosen by the element)
#   --fps N           frames per second (FPS, chosen by the element)
#   --codec h264|vp8  codec of the stream (CODEC, h264)

set -eu
. "$(dirname "$0")/lib/common.sh"
CODEC=${CODEC:-h264} SIZE=${SIZE:-} FPS=${FPS:-} SERIAL=${SERIAL:-} RECORDING=${RECORDING:-}
ALIGN=${ALIGN:-color}
while [ $# -gt 0 ]; do
    used=2
    case $1 in
        --align) ALIGN=$(value "$@") ;;
        *) realsense_option "$@" ;;
    esac
    shift "$used"
done
case $ALIGN in color | none) ;; *) die "--align $ALIGN is not supported; use color or none" ;; esac

need_realsense
need_room_element roomwebrtcsink
choose_encoder "$CODEC"
caps=$(realsense_caps)
room=$(room_properties)
camera=$(realsense_properties)
launch -e roomwebrtcsink name=room $room \
    realsensesrc name=camera $camera align="$ALIGN" colorize=true \
    camera.src ! queue ! "$caps" ! $encoder ! room. \
    camera.depth ! queue ! "$caps" ! $encoder ! room.
