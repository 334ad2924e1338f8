#!/usr/bin/env bash
# Provides librealsense for building and running realsensesrc: an installed SDK, or otherwise a library in .cache/librealsense
# that is made from the PyPI wheel pyrealsense2. The library is for development and tests; users install the SDK.
#
#   eval "$(scripts/setup-librealsense.sh)"   makes the library if needed, and sets PKG_CONFIG_PATH and LD_LIBRARY_PATH
#   scripts/setup-librealsense.sh 2.57.7      makes the library of this version, even if an SDK is installed
set -euo pipefail
. "$(dirname "$0")/common.sh"

# The Python module contains the whole C library, so a wheel for any Python version works.
declare -A wheels=(
    [2.56.5]='pyrealsense2==2.56.5.9235 --hash=sha256:76d384ea99f257b4697a82cb3581b05cc69fadfd0701021ad76da098a3e240f0'
    [2.57.7]='pyrealsense2==2.57.7.10387 --hash=sha256:3f95183e07b964c86794e508ec82c82700ae597acbf0751083f7a387a490eb1c'
)
wheel_tags=(--python-version 3.11 --implementation cp --abi cp311 --platform manylinux1_x86_64)

# Messages go to stderr, because stdout is for eval.
tell() { say "$@" >&2; }

# Downloads the Python module of version $1 into folder $2.
fetch_module() {
    printf '%s\n' "${wheels[$1]}" >"$2/wanted.txt"
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore /usr/bin/python3 -m pip download -q --no-deps --only-binary=:all: \
        "${wheel_tags[@]}" --require-hashes -r "$2/wanted.txt" -d "$2" >&2
    /usr/bin/python3 -m zipfile -e "$2"/pyrealsense2-*.whl "$2"
    mv "$2"/pyrealsense2/pyrealsense2.*.so "$2/module.so"
}

# Makes library $2 with a symbol for each one that module $1 needs from the Python interpreter. The module uses them only when
# Python imports it, so it loads without Python.
make_stand_ins() {
    nm -D --undefined-only "$1" | awk '$NF ~ /^_?Py/ { print "char " $NF "[512];" }' |
        gcc -shared -fPIC -x c - -s -Wl,-soname,"$(basename "$2")" -o "$2"
}

# Makes the library of version $1 in folder $2.
make_library() {
    local soname="librealsense2.so.${1%.*}"
    mkdir -p "$(dirname "$2")"
    work=$(mktemp -d "$2.XXXXXX") # Next to its destination, and renamed when complete, so that concurrent runs do not conflict.
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/lib/pkgconfig"
    fetch_module "$1" "$work"
    make_stand_ins "$work/module.so" "$work/lib/librealsense2-no-python.so"
    # Separate calls, because patchelf 0.14 confuses the arguments of --set-soname and --add-needed in a single call.
    patchelf --set-soname "$soname" "$work/module.so"
    patchelf --add-needed librealsense2-no-python.so "$work/module.so"
    patchelf --set-rpath "\$ORIGIN" "$work/module.so"
    mv "$work/module.so" "$work/lib/librealsense2.so.$1"
    ln -s "librealsense2.so.$1" "$work/lib/$soname"
    ln -s "$soname" "$work/lib/librealsense2.so"
    cat >"$work/lib/pkgconfig/realsense2.pc" <<PC
libdir=\${pcfiledir}/..
Name: realsense2
Description: C library from the wheel pyrealsense2, for development and tests
Version: $1
Libs: -L\${libdir} -lrealsense2
PC
    find "$work" -mindepth 1 -maxdepth 1 ! -name lib -exec rm -rf {} +
    chmod 755 "$work"
    mv -T "$work" "$2" 2>/dev/null || rm -rf "$work"
}

case "${1:-}" in
    -h|--help) help; exit 0 ;;
esac
version=${1:-$librealsense_default}
[ -n "${wheels[$version]:-}" ] || die "version $version is unknown; use one of: ${!wheels[*]}"
if [ $# = 0 ] && has_librealsense; then
    tell "librealsense $(pkg-config --modversion realsense2) is installed in $(pkg-config --variable=libdir realsense2)"
    exit 0
fi

made="$root/.cache/librealsense/$version"
if [ ! -e "$made/lib/pkgconfig/realsense2.pc" ]; then
    [ "$(uname -m)" = x86_64 ] ||
        die "librealsense can be made for x86_64 only, not for $(uname -m). Install the SDK, $librealsense_least or later (README.md)"
    for tool in gcc nm patchelf pkg-config; do
        command -v "$tool" >/dev/null || die "$tool is missing: run scripts/setup.sh test"
    done
    tell "Making librealsense $version from the PyPI wheel in .cache/librealsense/$version"
    make_library "$version" "$made"
fi
use_librealsense "$version"
printf 'export PKG_CONFIG_PATH=%q LD_LIBRARY_PATH=%q\n' "$PKG_CONFIG_PATH" "$LD_LIBRARY_PATH"
