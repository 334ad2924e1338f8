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
