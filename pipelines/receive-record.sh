#!/bin/sh
# Records the H.264 video of a room into MP4 files without encoding it again. A sender that restarts, even with another
# size, is recorded into the same file. A sender of another codec is reported and not recorded.
#
#   receive-record.sh --room living_room --file cam.mp4
#   receive-record.sh --room living_room --file part-%03d.mp4 --split 60     a new file every minute
#
# Options:
#   --file NAME       output file (FILE, recording.mp4); with --split, its name needs a number such as %03d
#   --split SECONDS   begin a new file at this interval, at a keyframe (SPLIT, one file)
#   --sender ID       sender to record (SENDER, the first one in the room)
#   --latency MS      size of the jitter buffer (LATENCY, 200: completeness matters more than delay)

set -eu
. "$(dirname "$0")/lib/common.sh"
SENDER=${SENDER:-} LATENCY=${LATENCY:-200} FILE=${FILE:-recording.mp4} SPLIT=${SPLIT:-}
while [ $# -gt 0 ]; do
    used=2
    case $1 in
        --file) FILE=$(value "$@") ;;
        --split) SPLIT=$(value "$@") ;;
        *) receiver_option "$@" ;;
    esac
    shift "$used"
done

need_room_element roomwebrtcsrc
need h264parse gstreamer1.0-plugins-bad
need mp4mux gstreamer1.0-plugins-good
if [ -n "$SPLIT" ]; then
    case $FILE in *%*d*) ;; *) die "with --split, --file needs a number in its name: part-%03d.mp4" ;; esac
    set -- splitmuxsink location="$(quoted "$FILE")" max-size-time="${SPLIT}000000000"
else
    set -- mp4mux ! filesink location="$(quoted "$FILE")"
fi
room=$(room_properties)
launch -e roomwebrtcsrc $room codecs="<h264>" latency="$LATENCY" ! h264parse ! "$@"
