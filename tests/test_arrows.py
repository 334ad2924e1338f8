"""Who may import whom: what `cargo metadata` says, held against the picture in ARCHITECTURE.md."""

import json
import pathlib
import re
import subprocess

import pytest

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


def modules(crate):
    """The source files of a crate by the path of their module: `("net", "tls")`; `()` is its root."""
    source = crate / "src"
    for path in sorted(source.rglob("*.rs")):
        parts = path.relative_to(source).with_suffix("").parts
        if "bin" not in parts:
            yield tuple(part for part in parts if part not in ("mod", "lib", "main")), path


def without_tests(text):
    """The code before the tests of a file, without comments."""
    return re.sub(r"//.*", "", text.split("#[cfg(test)]\nmod ")[0])


def used_paths(text):
    """Yields the paths that code names from `crate` or `super` on, with the groups of a `use` taken apart."""
    for match in re.finditer(r"\b(?:crate|super)(?:::\w+)*(?:::\{)?", text):
        path = match.group()
        if not path.endswith("{"):
            yield path.split("::")
            continue
        prefixes, word = [path[:-3].split("::")], ""
        for character in text[match.end() :]:
            if character in "{},":
                if word and character != "{":
                    yield prefixes[-1] + word.split("::")
                if character == "{":
                    prefixes.append(prefixes[-1] + [part for part in word.split("::") if part])
                elif character == "}":
                    prefixes.pop()
                word = ""
                if not prefixes:
                    break
            elif not character.isspace():
                word += character


def file_arrows(crate):
    """For each module of a crate, the modules that it names, its ancestors apart: a child may look at its parent."""
    files = dict(modules(crate))
    graph = {}
    for module, path in files.items():
        graph[module] = set()
        for parts in used_paths(without_tests(path.read_text())):
            base = () if parts[0] == "crate" else module[: -1 if module else None]
            rest = parts[1:]
            while rest and rest[0] == "super":
                base, rest = base[:-1], rest[1:]
            target = base
            for part in rest:
                if target + (part,) not in files:
                    break
                target += (part,)
            if target in files and module[: len(target)] != target:
                graph[module].add(target)
    return graph


def circle(graph):
    """A circle of the graph, if there is one."""
    done, way = set(), []

    def visit(node):
        if node in way:
            return way[way.index(node) :] + [node]
        if node in done:
            return None
        way.append(node)
        found = next((found for target in sorted(graph[node]) if (found := visit(target))), None)
        way.pop()
        done.add(node)
        return found

    return next((found for node in sorted(graph) if (found := visit(node))), None)


CRATES_WITHOUT_CIRCLES = [
    "signaling/protocol", "signaling/server", "signaling/daemon", "signaling/client", "gst-plugins/roomwebrtc",
    "gst-plugins/realsense",
]


@pytest.mark.parametrize("crate", CRATES_WITHOUT_CIRCLES)
def test_no_circles_between_files(crate):
    found = circle(file_arrows(ROOT / crate))
    assert not found, " -> ".join("::".join(module) or "lib" for module in found)


def test_a_circle_is_found(tmp_path):
    for name, text in [
        ("lib.rs", "mod a;\nmod b;\npub use a::A;\n"),
        ("a.rs", "use crate::{\n    b::{B, C},\n};\n"),
        ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::A; }\n"),
    ]:
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src" / name).write_text(text)
    assert circle(file_arrows(tmp_path)) is None
    (tmp_path / "src" / "b.rs").write_text("fn f(a: super::a::A) {}\n")
    assert circle(file_arrows(tmp_path)) == [("a",), ("b",), ("a",)]
    # The root may be looked at by all.
    (tmp_path / "src" / "b.rs").write_text("use crate::A;\n")
    assert circle(file_arrows(tmp_path)) is None
