#!/bin/sh
# Sends the depth of a RealSense camera into a room, as colors: near is blue, far is red, unknown is black.
#
#   send-realsense-depth.sh --room living_room
#   send-realsense-depth.sh --room living_room --smooth
#
# Options:
#   --smooth          filter noise and fill holes (spatial, temporal, hole-filling)
#   --serial NUMBER   serial number of the camera (SERIAL, the first camera); see `gst-device-monitor-1.0 Video/Source`
#   --recording FILE  play a recording (.bag) instead of a camera (RECORDING)
#   --loop            repeat the recording
#   --size WxH        size of the picture (SIZE, chosen by the element)
#   --fps N           frames per second (FPS, chosen by the element)
#   --codec h264|vp8  codec of the stream (CODEC, h264)

set -eu
. "$(dirname "$0")/lib/common.sh"
CODEC=${CODEC:-h264} SIZE=${SIZE:-} FPS=${FPS:-} SERIAL=${SERIAL:-} RECORDING=${RECORDING:-}
smooth=
while [ $# -gt 0 ]; do
    case $1 in
        --smooth) used=1 smooth='spatial=true
temporal=true
hole-filling=nearest-from-around' ;;
        *) realsense_option "$@" ;;
    esac
    shift "$used"
done

need_realsense
need_room_element roomwebrtcsink
choose_encoder "$CODEC"
caps=$(realsense_caps)
room=$(room_properties)
camera=$(realsense_properties)
launch -e realsensesrc $camera stream=depth colorize=true $smooth ! "$caps" ! $encoder \
    ! roomwebrtcsink $room
