#!/usr/bin/env bash
# Installs the missing dependencies of the demo or of the tests, on Debian 12 or later.
#
#   scripts/setup.sh demo               dependencies for building, sending and receiving
#   scripts/setup.sh demo --realsense   and for RealSense cameras
#   scripts/setup.sh test               and for scripts/test.sh
#   scripts/setup.sh test --yes         installs without asking, like CI=true
set -euo pipefail
. "$(dirname "$0")/common.sh"

build_packages=(
    build-essential ca-certificates curl git pkg-config
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev
)
stream_packages=(
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-nice
    python3 python3-gi python3-numpy gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gir1.2-gst-plugins-bad-1.0
)
librealsense_packages=(binutils libudev1 libusb-1.0-0 patchelf python3-pip)
test_packages=(
    buildah caddy chromium coturn crun gstreamer1.0-plugins-base-apps haproxy iproute2 meson mmdebstrap nginx ninja-build openssl
    podman python3-venv systemd
    "${librealsense_packages[@]}"
)

ask_yes() {
    if [ "$yes" = 1 ]; then return; fi
    [ -t 0 ] || die "$1 There is no terminal to ask on; run again with --yes."
    read -r -p "$1 [Y/n] " answer
    case "$answer" in ''|[Yy]*) ;; *) die "stopped, because it is required" ;; esac
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

install_packages() {
    command -v apt-get >/dev/null || die "only Debian and its derivatives are supported; install these packages yourself: $*"
    local missing=() package
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "Installing from Debian: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
    # The tests start these programs themselves. As services, they would occupy ports.
    for package in caddy coturn haproxy nginx; do
        [[ " ${missing[*]} " == *" $package "* ]] && [ -d /run/systemd/system ] || continue
        as_root systemctl disable --now "$package" >/dev/null 2>&1 || true
    done
}

# Installs the Rust version that the workspace requires (`rust-version`), unless that or a later one is installed.
install_rust() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
    if [ -n "$have" ] && [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -1)" = "$wanted" ]; then return; fi
    if command -v rustup >/dev/null; then
        ask_yes "Rust $wanted is needed, but the default is ${have:-not set}. Install it in addition with rustup?"
        rustup toolchain install "$wanted" --profile minimal -c clippy -c rustfmt
        mkdir -p "$root/.cache"
        printf '%s\n' "$wanted" >"$root/.cache/rust-toolchain" # Read by common.sh.
    else
        ask_yes "Rust $wanted or later is needed. Install it with rustup (https://rustup.rs) into $HOME/.cargo?"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --profile minimal -c clippy -c rustfmt --no-modify-path
    fi
}

install_python() {
    if [ ! -x "$python" ]; then
        say "Creating a Python environment in .venv"
        /usr/bin/python3 -m venv --system-site-packages "$root/.venv"
    fi
    local wanted="$root/tests/requirements.txt" done_mark="$root/.venv/installed-requirements"
    if cmp -s "$wanted" "$done_mark"; then return; fi
    say "Installing from PyPI into .venv: $(grep -v '^#' "$wanted" | tr '\n' ' ')"
    "$python" -m pip install -q -r "$wanted"
    cp "$wanted" "$done_mark"
}

install_nextest() {
    if cargo nextest --version >/dev/null 2>&1; then return; fi
    say "Installing cargo-nextest from crates.io (takes some minutes, once)"
    cargo install -q --locked cargo-nextest
}

# Makes a Debian 13 tree with GStreamer 1.26, in which tests/test_gst126.py runs the same plugin file.
make_trixie() {
    [ ! -d "$trixie" ] || return 0
    say "Creating a Debian 13 tree with GStreamer 1.26 in .cache/trixie (860 MB, about a minute)"
    mkdir -p "$root/.cache"
    as_root rm -rf "$trixie.part"
    as_root mmdebstrap -q --variant=apt \
        --include=gstreamer1.0-tools,gstreamer1.0-plugins-base,gstreamer1.0-plugins-good,gstreamer1.0-plugins-bad \
        --include=gstreamer1.0-plugins-ugly,gstreamer1.0-libav,gstreamer1.0-nice \
        trixie "$trixie.part"
    as_root mv "$trixie.part" "$trixie"
}

mode='' yes=0 realsense=0
[ -z "${CI:-}" ] || yes=1
for argument in "$@"; do
    case "$argument" in
        demo|test) mode=$argument ;;
        -y|--yes) yes=1 ;;
        --realsense) realsense=1 ;;
        -h|--help) help; exit 0 ;;
        *) die "unknown argument: $argument; see --help" ;;
    esac
done

case "$mode" in
    demo)
        install_packages "${build_packages[@]}" "${stream_packages[@]}"
        if [ "$realsense" = 1 ]; then
            has_librealsense || install_packages "${librealsense_packages[@]}"
            "$root/scripts/setup-librealsense.sh" >/dev/null
        fi
        install_rust
        ;;
    test)
        command -v node >/dev/null || test_packages+=(nodejs)
        install_packages "${build_packages[@]}" "${stream_packages[@]}" "${test_packages[@]}"
        "$root/scripts/setup-librealsense.sh" >/dev/null
        "$root/scripts/setup-librealsense.sh" "$librealsense_later" >/dev/null
        install_rust
        install_python
        install_nextest
        make_trixie
        ;;
    *) die "the argument demo or test is missing; see --help" ;;
esac
