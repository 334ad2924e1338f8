#!/usr/bin/env bash
# Finds librealsense for building and running realsensesrc: the SDK that is installed here, or else a library for
# development and tests, made in .cache/librealsense from the wheel pyrealsense2 of PyPI. (Users install the SDK.)
#
#   eval "$(scripts/setup-librealsense.sh)"   makes what is missing and sets PKG_CONFIG_PATH and LD_LIBRARY_PATH
#   scripts/setup-librealsense.sh 2.57.7      makes the library of that version, whatever is installed
set -euo pipefail
. "$(dirname "$0")/common.sh"

# The whole C library is inside the Python module; any Python version's would do.
declare -A wheels=(
    [2.56.5]='pyrealsense2==2.56.5.9235 --hash=sha256:76d384ea99f257b4697a82cb3581b05cc69fadfd0701021ad76da098a3e240f0'
    [2.57.7]='pyrealsense2==2.57.7.10387 --hash=sha256:3f95183e07b964c86794e508ec82c82700ae597acbf0751083f7a387a490eb1c'
)
wheel_tags=(--python-version 3.11 --implementation cp --abi cp311 --platform manylinux1_x86_64)

# stdout is for eval.
tell() { say "$@" >&2; }

# $1: version, $2: folder. Leaves the Python module there.
fetch_module() {
    printf '%s\n' "${wheels[$1]}" >"$2/wanted.txt"
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore /usr/bin/python3 -m pip download -q --no-deps --only-binary=:all: \
        "${wheel_tags[@]}" --require-hashes -r "$2/wanted.txt" -d "$2" >&2
    /usr/bin/python3 -m zipfile -e "$2"/pyrealsense2-*.whl "$2"
    mv "$2"/pyrealsense2/pyrealsense2.*.so "$2/module.so"
}

# $1: module, $2: library to make. The module wants symbols of the interpreter, which it uses only when it is imported:
# here is one of each name, so that it loads without Python.
make_stand_ins() {
    nm -D --undefined-only "$1" | awk '$NF ~ /^_?Py/ { print "char " $NF "[512];" }' |
        gcc -shared -fPIC -x c - -s -Wl,-soname,"$(basename "$2")" -o "$2"
}

# $1: version, $2: folder to make.
make_library() {
    local work soname="librealsense2.so.${1%.*}"
    mkdir -p "$(dirname "$2")"
    work=$(mktemp -d "$2.XXXXXX") # beside its place: two runs don't meet
    mkdir -p "$work/lib/pkgconfig"
    fetch_module "$1" "$work"
    make_stand_ins "$work/module.so" "$work/lib/librealsense2-no-python.so"
    # One call each: patchelf 0.14 mixes up the arguments of --set-soname and --add-needed in a single one.
    patchelf --set-soname "$soname" "$work/module.so"
    patchelf --add-needed librealsense2-no-python.so "$work/module.so"
    patchelf --set-rpath "\$ORIGIN" "$work/module.so"
    mv "$work/module.so" "$work/lib/librealsense2.so.$1"
    ln -s "librealsense2.so.$1" "$work/lib/$soname"
    ln -s "$soname" "$work/lib/librealsense2.so"
    cat >"$work/lib/pkgconfig/realsense2.pc" <<PC
libdir=\${pcfiledir}/..
Name: realsense2
Description: C library out of the wheel pyrealsense2, for development and tests
Version: $1
Libs: -L\${libdir} -lrealsense2
PC
    find "$work" -mindepth 1 -maxdepth 1 ! -name lib -exec rm -rf {} +
    chmod 755 "$work"
    mv -T "$work" "$2" 2>/dev/null || rm -rf "$work"
}

case "${1:-}" in
    -h|--help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
esac
version=${1:-$librealsense_default}
[ -n "${wheels[$version]:-}" ] || die "version $version is not among those known here: ${!wheels[*]}"
if [ $# = 0 ] && has_librealsense; then
    tell "librealsense $(pkg-config --modversion realsense2) is here ($(pkg-config --variable=libdir realsense2))"
    exit 0
fi

made="$root/.cache/librealsense/$version"
if [ ! -e "$made/lib/pkgconfig/realsense2.pc" ]; then
    [ "$(uname -m)" = x86_64 ] ||
        die "librealsense can be made for x86_64 only, not $(uname -m): install the SDK, $librealsense_least or later (README.md)"
    for tool in gcc nm patchelf pkg-config; do
        command -v "$tool" >/dev/null || die "$tool is missing: run scripts/setup.sh test"
    done
    tell "Making librealsense $version from the wheel of PyPI in .cache/librealsense/$version"
    make_library "$version" "$made"
fi
use_librealsense "$version"
printf 'export PKG_CONFIG_PATH=%q LD_LIBRARY_PATH=%q\n' "$PKG_CONFIG_PATH" "$LD_LIBRARY_PATH"
