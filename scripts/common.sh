# What demo.sh, setup.sh and test.sh share. Sourced, never run.
# Sets: root (the checkout), PATH with cargo and the tests' Python in it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="$HOME/.cargo/bin:$PATH"
python="$root/.venv/bin/python"
trixie="$root/.cache/trixie"
if [ -f "$root/.cache/rust-toolchain" ]; then # setup.sh installed one beside the user's default
    RUSTUP_TOOLCHAIN=$(<"$root/.cache/rust-toolchain")
    export RUSTUP_TOOLCHAIN
fi

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    command -v sudo >/dev/null || die "root is needed for: $* (and sudo is not installed)"
    sudo -- "$@"
}

# Where GStreamer finds our plugins ($1: the folder they are in), with a registry of its own, so that neither an old
# registry nor one of another GStreamer version is believed.
use_plugins() {
    export GST_PLUGIN_PATH="$1${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}"
    export GST_REGISTRY="$2"
}

librealsense_least=2.56.5
librealsense_default=2.56.5
librealsense_later=2.57.7 # tests run with it, too

# Is there a librealsense for pkg-config that is new enough: an installed SDK, or one that use_librealsense has named?
has_librealsense() { pkg-config --atleast-version="$librealsense_least" realsense2 2>/dev/null; }

# Names the library that setup-librealsense.sh has made for builds and runs that follow, where no SDK is installed.
# $1: this version of it, even where there is one.
use_librealsense() {
    if [ $# = 0 ] && has_librealsense; then return; fi
    local made="$root/.cache/librealsense/${1:-$librealsense_default}/lib"
    export PKG_CONFIG_PATH="$made/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
    export LD_LIBRARY_PATH="$made${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}
