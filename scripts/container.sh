#!/usr/bin/env bash
# Builds the container image of the signaling server: a static program in an image with nothing else.
#
#   scripts/container.sh                        room-signaling:latest, with docker, podman or buildah
#   scripts/container.sh --tag robot/room:1.0   another name
#   scripts/container.sh --tool buildah         with that tool
#
# Then, for example:
#
#   podman run --rm --read-only --cap-drop=all -p 8765:8765 room-signaling
set -euo pipefail
. "$(dirname "$0")/common.sh"

tag=room-signaling:latest tool=''
while [ $# -gt 0 ]; do
    case "$1" in
        --tag) tag=${2:?--tag wants a name}; shift ;;
        --tool) tool=${2:?--tool wants docker, podman or buildah}; shift ;;
        -h|--help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *) die "unknown argument: $1 (see --help)" ;;
    esac
    shift
done
if [ -z "$tool" ]; then
    # Docker's command may be there without the daemon that does the work.
    if docker info >/dev/null 2>&1; then tool=docker
    elif command -v podman >/dev/null; then tool=podman
    elif command -v buildah >/dev/null; then tool=buildah
    else die "none of docker, podman, buildah is here and works: apt-get install podman"
    fi
fi

# HEALTHCHECK is of Docker's image format, which is not what the other two make unless asked.
case "$tool" in
    docker) build=(docker build) ;;
    podman|buildah) build=("$tool" build --format docker) ;;
    *) die "--tool $tool is not known: docker, podman or buildah" ;;
esac

cd "$root"
triple=$(rustc -vV | sed -n 's/^host: //p')
say "Building a static room-signaling for $triple"
# With --target, the flags are not for what runs while building.
RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked -p room-signaling --target "$triple"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "target/$triple/release/room-signaling" "$context"
readelf --program-headers "$context/room-signaling" | grep -q INTERP && die "the program is not static: is another RUSTFLAGS in .cargo/config.toml?"
say "Building the image $tag with $tool"
"${build[@]}" --tag "$tag" --file signaling/server/Dockerfile "$context"
