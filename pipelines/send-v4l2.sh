#!/bin/sh
# Sends a camera of this machine into a room.
#   send-v4l2.sh --room living_room
#   send-v4l2.sh --room living_room --device /dev/video2 --mjpeg --size 1920x1080
#
# Options:
#   --device PATH     the camera (DEVICE, /dev/video0); `v4l2-ctl --list-devices` names them
#   --size WxH        of the picture (SIZE, 640x480)
#   --fps N           frames per second (FPS, 30)
#   --mjpeg           take JPEG from the camera: many have their large sizes only so
#   --codec h264|vp8  what to send (CODEC, h264)

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
    [ -e "$DEVICE" ] || die "there is no camera at $DEVICE; here are: $(echo /dev/video*)"
    [ -r "$DEVICE" ] || die "$DEVICE can't be read. Be in its group: sudo adduser $(id -un) video, then log in again"
fi
choose_encoder "$CODEC"
raw=$(raw_video "$SIZE" "$FPS")
if [ "$mjpeg" = 1 ]; then
    need jpegdec gstreamer1.0-plugins-good
    set -- "image/jpeg,${raw#video/x-raw,}" ! jpegdec
else
    set -- "$raw"
fi
launch -e v4l2src device="$(quoted "$DEVICE")" ! "$@" ! videoconvert ! $encoder ! roomwebrtcsink ROOM_PROPERTIES
