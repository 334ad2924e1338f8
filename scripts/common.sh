# Functions and settings that the scripts share. Sourced by them, never run.
# Sets: root (the checkout), python (the tests' Python), and PATH with cargo.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="$HOME/.cargo/bin:$PATH"
python="$root/.venv/bin/python"
trixie="$root/.cache/trixie"
if [ -f "$root/.cache/rust-toolchain" ]; then # setup.sh installed a toolchain besides the user's default
    RUSTUP_TOOLCHAIN=$(<"$root/.cache/rust-toolchain")
    export RUSTUP_TOOLCHAIN
fi

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Prints the leading comment of the script, which is its help.
help() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    command -v sudo >/dev/null || die "root is needed for: $* (and sudo is not installed)"
    sudo -- "$@"
}

# Makes GStreamer find our plugins in folder $1, with the registry file $2: the user's registry may be outdated, or of another
# GStreamer version.
use_plugins() {
    export GST_PLUGIN_PATH="$1${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}"
    export GST_REGISTRY="$2"
}

librealsense_least=2.56.5
librealsense_default=2.56.5
librealsense_later=2.57.7 # The tests also run with this version.

# Whether pkg-config finds a librealsense that is new enough: an installed SDK, or a library that use_librealsense selected.
has_librealsense() { pkg-config --atleast-version="$librealsense_least" realsense2 2>/dev/null; }

# Selects the library that setup-librealsense.sh made, for subsequent builds and runs, unless an SDK is installed.
# With a version as $1, selects that version even if an SDK is installed.
use_librealsense() {
    if [ $# = 0 ] && has_librealsense; then return; fi
    local made="$root/.cache/librealsense/${1:-$librealsense_default}/lib"
    export PKG_CONFIG_PATH="$made/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
    export LD_LIBRARY_PATH="$made${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}
