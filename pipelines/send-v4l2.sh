#!/bin/sh
# Sends the picture of a camera of this machine (V4L2) into a room.
#
#   send-v4l2.sh --room living_room
#   send-v4l2.sh --room living_room --device /dev/video2 --mjpeg --size 1920x1080
#
# Options:
#   --device PATH     device of the camera (DEVICE, /dev/video0); see `v4l2-ctl --list-devices`
#   --size WxH        size of the picture (SIZE, 640x480)
#   --fps N           frames per second (FPS, 30)
#   --mjpeg           receive JPEG from the camera; many cameras offer large sizes only as JPEG
#   --codec h264|vp8  codec of the stream (CODEC, h264)

set -eu
. "$(dirname "$0")/lib/common.sh"
CODEC=${CODEC:-h264} SIZE=${SIZE:-640x480} FPS=${FPS:-30} DEVICE=${DEVICE:-/dev/video0}
mjpeg=0
while [ $# -gt 0 ]; do
    used=2
    case $1 in
        --device) DEVICE=$(value "$@") ;;
        --size) SIZE=$(value "$@") ;;
        --fps) FPS=$(value "$@") ;;
        --mjpeg) mjpeg=1 used=1 ;;
        --codec) CODEC=$(value "$@") ;;
        *) common_option "$@" ;;
    esac
    shift "$used"
done

need_room_element roomwebrtcsink
need v4l2src gstreamer1.0-plugins-good
need videoconvert gstreamer1.0-plugins-base
if [ "$dry_run" = 0 ]; then
    [ -e "$DEVICE" ] || die "there is no camera at $DEVICE; found: $(set +f && echo /dev/video*)"
    [ -r "$DEVICE" ] || die "$DEVICE is not readable. Join its group with sudo adduser $(id -un) video, then log in again"
fi
choose_encoder "$CODEC"
raw=$(raw_video "$SIZE" "$FPS")
if [ "$mjpeg" = 1 ]; then
    need jpegdec gstreamer1.0-plugins-good
    set -- "image/jpeg,${raw#video/x-raw,}" ! jpegdec
else
    set -- "$raw"
fi
room=$(room_properties)
launch -e v4l2src device="$(quoted "$DEVICE")" ! "$@" ! videoconvert ! $encoder ! roomwebrtcsink $room
