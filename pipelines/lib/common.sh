# Options, checks and the launch that the pipeline scripts share. Sourced by them, never run.
# The leading comment of a script is its --help. A script handles its own options, passes others to common_option,
# receiver_option or realsense_option, checks for the elements that it needs, and ends with launch.
#
# Several arguments in one variable are separated by newlines: $room, $camera, $encoder and others expand to one argument
# per line, because the lines below restrict word splitting to newlines and switch off globbing.
IFS='
'
set -f

ROOM=${ROOM:-room_default}
SERVER=${SERVER:-ws://127.0.0.1:8765}
CLIENT_ID=${CLIENT_ID:-}
STUN=${STUN:-}
TURN=${TURN:-}
dry_run=0
here=$(cd "$(dirname "$0")" && pwd)

common_options='  --room ROOM       room to join (ROOM, room_default)
  --server URI      signaling server (SERVER, ws://127.0.0.1:8765); a host without port and path means port 8765
  --client-id ID    name in the room (CLIENT_ID, chosen by the server)
  --stun URI        STUN server, stun://host:port (STUN, servers from the signaling server)
  --turn URI        TURN server, turn://user:password@host:port (TURN, servers from the signaling server)
  --dry-run         print the gst-launch line instead of running it
  --help            show this text
In parentheses: the environment variable that sets the option, too, and the default. Ctrl-C ends the program.'

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# Prints the value of the option $1.
value() {
    [ $# -ge 2 ] || die "$1 needs a value; see --help"
    printf '%s' "$2"
}

# Handles an option that all scripts have, and sets `used` to the number of arguments consumed.
common_option() {
    used=2
    case $1 in
        --room) ROOM=$(value "$@") ;;
        --server) SERVER=$(value "$@") ;;
        --client-id) CLIENT_ID=$(value "$@") ;;
        --stun) STUN=$(value "$@") ;;
        --turn) TURN=$(value "$@") ;;
        --dry-run) dry_run=1 used=1 ;;
        -h | --help)
            sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
            printf '%s\n' "$common_options"
            exit 0
            ;;
        *) die "unknown option: $1; see --help" ;;
    esac
}

# Handles an option that all receivers have, or one that all scripts have.
receiver_option() {
    used=2
    case $1 in
        --sender) SENDER=$(value "$@") ;;
        --latency) LATENCY=$(value "$@") ;;
        *) common_option "$@" ;;
    esac
}

# Prints a value in the syntax of gst-launch.
quoted() {
    case $1 in
        *[!A-Za-z0-9_.:/-]* | '') printf '"%s"' "$(printf '%s' "$1" | sed 's/[\\"]/\\&/g')" ;;
        *) printf '%s' "$1" ;;
    esac
}

# Prints the properties of roomwebrtcsink or roomwebrtcsrc, one per line. Call it after all options are read.
room_properties() {
    printf 'signaling-uri=%s\nroom=%s\n' "$(quoted "$SERVER")" "$(quoted "$ROOM")"
    [ -z "$CLIENT_ID" ] || printf 'client-id=%s\n' "$(quoted "$CLIENT_ID")"
    [ -z "$STUN" ] || printf 'stun-server=%s\n' "$(quoted "$STUN")"
    [ -z "$TURN" ] || printf 'turn-servers=<"%s">\n' "$TURN"
    [ -z "${SENDER:-}" ] || printf 'sender-id=%s\n' "$(quoted "$SENDER")"
}

# Tests whether an element exists. Without a version, gst-inspect requires a plugin no older than GStreamer itself.
exists() {
    gst-inspect-1.0 --exists --atleast-version=0.0 "$1"
}

# Exits with the name of the package to install unless the element exists. $1: element, $2: Debian package.
need() {
    [ "$dry_run" = 1 ] || exists "$1" ||
        die "GStreamer has no element $1. On Debian: sudo apt install $2"
}

# Adds the build directory to the plugin path if element $1 is not installed and plugin $2 is built.
find_built() {
    command -v gst-launch-1.0 >/dev/null ||
        die 'GStreamer is missing. On Debian: sudo apt install gstreamer1.0-tools'
    built=$here/../target/release
    if ! exists "$1" && [ -e "$built/$2" ]; then
        GST_PLUGIN_PATH=$(cd "$built" && pwd)${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
        export GST_PLUGIN_PATH
    fi
}

# Exits unless $1, roomwebrtcsink or roomwebrtcsrc, exists.
need_room_element() {
    [ "$dry_run" = 0 ] || return 0
    find_built "$1" libgstroomwebrtc.so
    exists "$1" ||
        die "GStreamer has no element $1. Build it with: cargo build --release -p gst-plugin-roomwebrtc"
    need webrtcbin gstreamer1.0-plugins-bad
    need nicesrc gstreamer1.0-nice
}

# Exits unless realsensesrc exists.
need_realsense() {
    [ "$dry_run" = 0 ] || return 0
    find_built realsensesrc libgstrealsense.so
    if exists realsensesrc; then return 0; fi
    ! gst-inspect-1.0 -b | grep -q libgstrealsense ||
        die 'The plugin of realsensesrc does not load, because librealsense is missing. docs/troubleshooting.md describes the installation'
    die 'GStreamer has no element realsensesrc. Build it with: cargo build --release -p gst-plugin-realsense'
}

# Handles an option of the RealSense senders, or one that all scripts have.
realsense_option() {
    used=2
    case $1 in
        --serial) SERIAL=$(value "$@") ;;
        --recording) RECORDING=$(value "$@") ;;
        --loop) loop=loop=true used=1 ;;
        --size) SIZE=$(value "$@") ;;
        --fps) FPS=$(value "$@") ;;
        --codec) CODEC=$(value "$@") ;;
        *) common_option "$@" ;;
    esac
}

# Prints the properties of realsensesrc, one per line. Call it after all options are read.
realsense_properties() {
    [ -z "${SERIAL:-}" ] || printf 'serial=%s\n' "$(quoted "$SERIAL")"
    [ -z "${RECORDING:-}" ] || printf 'recording-location=%s\n' "$(quoted "$RECORDING")"
    [ -z "${loop:-}" ] || printf '%s\n' "$loop"
}

# Prints caps with SIZE and FPS, each only if it is set.
realsense_caps() {
    case ${SIZE:-} in
        '') printf 'video/x-raw' ;;
        [1-9]*x[1-9]*) printf 'video/x-raw,width=%s,height=%s' "${SIZE%x*}" "${SIZE#*x}" ;;
        *) die "--size $SIZE is not a size; write it like 1280x720" ;;
    esac
    [ -z "${FPS:-}" ] || printf ',framerate=%s/1' "$FPS"
}

# Sets `encoder` for the codec in $1. The sink configures it for low latency.
choose_encoder() {
    case $1 in
        h264) need x264enc gstreamer1.0-plugins-ugly && encoder=x264enc ;;
        vp8) need vp8enc gstreamer1.0-plugins-good && encoder='vp8enc
deadline=1' ;;
        *) die "--codec $1 is not supported; use h264 or vp8" ;;
    esac
}

# Prints the caps of raw video of size WxH in $1 and frames per second in $2.
raw_video() {
    case $1 in
        [1-9]*x[1-9]*) printf 'video/x-raw,width=%s,height=%s,framerate=%s/1' "${1%x*}" "${1#*x}" "$2" ;;
        *) die "--size $1 is not a size; write it like 1280x720" ;;
    esac
}

# Replaces this process with gst-launch-1.0, so that Ctrl-C reaches it directly, or prints its line for --dry-run.
# Scripts that send or record add -e: on Ctrl-C, the stream then ends with EOS, and elements downstream can finish. Without
# -e, Ctrl-C stops the pipeline immediately. The element leaves the room in both cases.
launch() {
    [ "$dry_run" = 1 ] || exec gst-launch-1.0 "$@"
    printf 'gst-launch-1.0'
    for argument in "$@"; do
        case $argument in
            !) printf ' !' ;;
            *[!A-Za-z0-9_.,:/=@%+-]*) printf " '%s'" "$(printf '%s' "$argument" | sed "s/'/'\\\\''/g")" ;;
            *) printf ' %s' "$argument" ;;
        esac
    done
    printf '\n'
}
