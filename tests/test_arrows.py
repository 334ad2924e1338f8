"""Who may import whom: what `cargo metadata` says, held against the picture in ARCHITECTURE.md."""

import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent

# The crates of this workspace and those of ours that each may use. Nothing else is an arrow.
ALLOWED = {
    "room-protocol": set(),
    "room-signaling-server": {"room-protocol"},
    "room-signaling": {"room-signaling-server", "room-protocol"},
    "room-signaling-client": {"room-protocol"},
    "room-bench": set(),
    "gst-plugin-roomwebrtc": {"room-signaling-client", "room-signaling-server", "room-protocol"},
    "gst-plugin-realsense": set(),
}
# Crates that must not be reachable at all, by whatever way, outside of tests.
FORBIDDEN = {
    "room-protocol": ("tokio", "gstreamer", "mio", "async-std", "rand", "getrandom"),
    "room-signaling": ("gstreamer",),
    # The plugin embeds the server: what only the program needs stays out of it.
    "room-signaling-server": ("gstreamer", "clap", "mimalloc", "sd-notify", "rpassword", "rlimit", "anyhow"),
    "room-signaling-client": ("gstreamer",),
    "gst-plugin-realsense": ("tokio",),
}


def run(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def metadata():
    host = re.search(r"^host: (.+)$", run("rustc", "-vV"), re.MULTILINE).group(1)
    return json.loads(run("cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={host}"))


def arrows(data):
    """Yields (from, to, kind) for each dependency of one crate of ours on another; kind is None, "dev" or "build"."""
    ours = {p["name"] for p in data["packages"] if p["id"] in data["workspace_members"]}
    for package in data["packages"]:
        if package["name"] in ours:
            for dependency in package["dependencies"]:
                if dependency["name"] in ours:
                    yield package["name"], dependency["name"], dependency["kind"]


def reachable(data, name):
    """The names of all crates that `name` is built with, tests apart."""
    names = {p["id"]: p["name"] for p in data["packages"]}
    nodes = {n["id"]: n for n in data["resolve"]["nodes"]}
    todo = [i for i in data["workspace_members"] if names[i] == name]
    seen = set()
    while todo:
        for dependency in nodes[todo.pop()]["deps"]:
            kinds = {kind["kind"] for kind in dependency["dep_kinds"]}
            if kinds != {"dev"} and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                todo.append(dependency["pkg"])
    return {names[i] for i in seen}


def test_every_crate_is_in_the_picture():
    data = metadata()
    ours = {p["name"] for p in data["packages"] if p["id"] in data["workspace_members"]}
    assert ours == set(ALLOWED)


def test_no_other_arrows():
    wrong = [
        f"{source} -> {target} ({kind or 'normal'})"
        for source, target, kind in arrows(metadata())
        # A test may drive the other end: the client's tests talk to a real server.
        if target not in ALLOWED.get(source, set()) | ({"room-signaling-server"} if kind == "dev" else set())
    ]
    assert not wrong


def test_what_must_not_be_reachable():
    data = metadata()
    wrong = [
        f"{name} reaches {crate}"
        for name, forbidden in FORBIDDEN.items()
        for crate in sorted(reachable(data, name))
        if crate.startswith(forbidden)
    ]
    assert not wrong


def test_elements_keep_their_insides():
    """An element's imp.rs is named by the mod.rs beside it alone."""
    inside = re.compile(r"\bimp(::|;| as )")
    of_another = re.compile(r"\b(crate|super)::(\w+::)*imp\b")
    wrong = []
    for path in (ROOT / "gst-plugins").glob("*/src/**/*.rs"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("//")[0]
            if path.name != "imp.rs" and (of_another if path.name == "mod.rs" else inside).search(code):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not wrong
