#!/bin/sh
# Sends what a RealSense camera measures into a room, as colors: near is blue, far is red, unknown is black.
#   send-realsense-depth.sh --room living_room
#   send-realsense-depth.sh --room living_room --smooth
#
# Options:
#   --smooth          filter noise and fill holes (spatial, temporal, hole-filling)
#   --serial NUMBER   which camera (SERIAL, the first); `gst-device-monitor-1.0 Video/Source` lists them
#   --recording FILE  play a recording (.bag) instead (RECORDING)
#   --loop            begin the recording again at its end
#   --size WxH        of the picture (SIZE, what the camera does by itself)
#   --fps N           frames per second (FPS, likewise)
#   --codec h264|vp8  what to send (CODEC, h264)

set -eu
. "$(dirname "$0")/lib/common.sh"
CODEC=${CODEC:-h264} SIZE=${SIZE:-} FPS=${FPS:-} SERIAL=${SERIAL:-} RECORDING=${RECORDING:-}
smooth=
while [ $# -gt 0 ]; do
    case $1 in
        --smooth) smooth='spatial=true temporal=true hole-filling=nearest-from-around' used=1 ;;
        *) realsense_option "$@" ;;
    esac
    shift "$used"
done

need_realsense
need_room_element roomwebrtcsink
choose_encoder "$CODEC"
caps=$(realsense_caps)
launch -e realsensesrc CAMERA_PROPERTIES stream=depth colorize=true $smooth ! "$caps" ! $encoder \
    ! roomwebrtcsink ROOM_PROPERTIES
