#!/bin/sh
# Sends the color picture of a RealSense camera into a room.
#
#   send-realsense.sh --room living_room
#   send-realsense.sh --room living_room --recording walk.bag --loop
#
# Options:
#   --serial NUMBER   serial number of the camera (SERIAL, the first camera); see `gst-device-monitor-1.0 Video/Source`
#   --recording FILE  play a recording (.bag) instead of a camera (RECORDING)
#   --loop            repeat the recording
#   --size WxH        size of the picture (SIZE, chosen by the element)
#   --fps N           frames per second (FPS, chosen by the element)
#   --codec h264|vp8  codec of the stream (CODEC, h264)

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
room=$(room_properties)
camera=$(realsense_properties)
launch -e realsensesrc $camera ! "$caps" ! $encoder ! roomwebrtcsink $room
