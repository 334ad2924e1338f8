#!/usr/bin/env bash
# Builds the container image of the signaling server, which contains a static program and nothing else.
#
#   scripts/container.sh                        room-signaling:latest, with docker, podman or buildah
#   scripts/container.sh --tag robot/room:1.0   with another name
#   scripts/container.sh --tool buildah         with this tool
#
# To run it, for example:
#
#   podman run --rm --read-only --cap-drop=all -p 8765:8765 room-signaling
set -euo pipefail
. "$(dirname "$0")/common.sh"

tag=room-signaling:latest tool=''
while [ $# -gt 0 ]; do
    case "$1" in
        --tag) tag=${2:?--tag needs a name}; shift ;;
        --tool) tool=${2:?--tool needs docker, podman or buildah}; shift ;;
        -h|--help) help; exit 0 ;;
        *) die "unknown argument: $1; see --help" ;;
    esac
    shift
done
if [ -z "$tool" ]; then
    # The docker command may be installed without a running daemon.
    if docker info >/dev/null 2>&1; then tool=docker
    elif command -v podman >/dev/null; then tool=podman
    elif command -v buildah >/dev/null; then tool=buildah
    else die "docker, podman or buildah is needed: apt-get install podman"
    fi
fi

# HEALTHCHECK needs Docker's image format, which is not the default of the other two.
case "$tool" in
    docker) build=(docker build) ;;
    podman|buildah) build=("$tool" build --format docker) ;;
    *) die "--tool $tool is not supported; use docker, podman or buildah" ;;
esac

cd "$root"
triple=$(rustc -vV | sed -n 's/^host: //p')
say "Building a static room-signaling for $triple"
# With --target, the flags do not apply to build scripts.
RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked -p room-signaling --target "$triple"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "target/$triple/release/room-signaling" "$context"
readelf --program-headers "$context/room-signaling" | grep -q INTERP && die "the program is not static; check whether .cargo/config.toml sets other RUSTFLAGS"
say "Building the image $tag with $tool"
"${build[@]}" --tag "$tag" --file signaling/server/Dockerfile "$context"
