#!/bin/sh
# Sends color and depth of a RealSense camera into a room, as two videos of one sender. Depth comes as colors, seen from
# where the color picture is taken, so that the two cover each other.
#   send-realsense-rgbd.sh --room living_room
#
# Options:
#   --align color|none  move depth to the color picture's view (ALIGN, color), or leave it
#   --serial NUMBER   which camera (SERIAL, the first); `gst-device-monitor-1.0 Video/Source` lists them
#   --recording FILE  play a recording (.bag) instead (RECORDING)
#   --loop            begin the recording again at its end
#   --size WxH        of the picture (SIZE, what the camera does by itself)
#   --fps N           frames per second (FPS, likewise)
#   --codec h264|vp8  what to send (CODEC, h264)

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
case $ALIGN in color | none) ;; *) die "--align is color or none, not $ALIGN" ;; esac

need_realsense
need_room_element roomwebrtcsink
choose_encoder "$CODEC"
caps=$(realsense_caps)
launch -e roomwebrtcsink name=room ROOM_PROPERTIES \
    realsensesrc name=camera CAMERA_PROPERTIES align="$ALIGN" colorize=true \
    camera.src ! queue ! "$caps" ! $encoder ! room. \
    camera.depth ! queue ! "$caps" ! $encoder ! room.
