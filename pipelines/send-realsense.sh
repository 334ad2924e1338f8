#!/bin/sh
# Sends the color picture of a RealSense camera into a room.
#   send-realsense.sh --room living_room
#   send-realsense.sh --room living_room --recording walk.bag --loop
#
# Options:
#   --serial NUMBER   which camera (SERIAL, the first); `gst-device-monitor-1.0 Video/Source` lists them
#   --recording FILE  play a recording (.bag) instead (RECORDING)
#   --loop            begin the recording again at its end
#   --size WxH        of the picture (SIZE, what the camera does by itself)
#   --fps N           frames per second (FPS, likewise)
#   --codec h264|vp8  what to send (CODEC, h264)

set -eu
. "$(dirname "$0")/lib/common.sh"
CODEC=${CODEC:-h264} SIZE=${SIZE:-} FPS=${FPS:-} SERIAL=${SERIAL:-} RECORDING=${RECORDING:-}
while [ $# -gt 0 ]; do
    realsense_option "$@"
    shift "$used"
done

need_realsense
need_room_element roomwebrtcsink
choose_encoder "$CODEC"
caps=$(realsense_caps)
launch -e realsensesrc CAMERA_PROPERTIES ! "$caps" ! $encoder ! roomwebrtcsink ROOM_PROPERTIES
