"""Links between documents lead somewhere, and the files and tests that documents name exist."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
EXTERNAL = re.compile(r"[a-z][a-z0-9+.-]*:")
PATH = re.compile(r"`([\w.*-]+(?:/[\w.*-]+)*(?:/|\.(?:rs|py|js|mjs|sh|md|toml)))`")


# A word with three underscores or more, or of pytest's form, is the name of a test.
TEST = re.compile(r"`(test_[a-z0-9_]+|[a-z0-9]+(?:_[a-z0-9]*){3,})(…?)`")


def documents():
    """The documents of the project, without those in build folders and in folders of tools."""
    for path in sorted(ROOT.rglob("*.md")):
        top = path.relative_to(ROOT).parts[0]
        if not top.startswith(".") and top not in ("target", "build"):
            yield path


def prose(text):
    """The text without code: blocks that are indented or fenced, and code inside a line."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`]*`", "", re.sub(r"^    .*", "", text, flags=re.MULTILINE))


def anchors(text):
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^    .*", "", text, flags=re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document):
    """Yields the relative links of a document that lead nowhere."""
    for target in LINK.findall(prose(document.read_text())):
        if EXTERNAL.match(target):
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            yield target


def missing_tests(text, defined):
    """Yields the names of tests in a text that are not defined. "…" stands for any end of a name."""
    for name, shortened in TEST.findall(text):
        if not (any(test.startswith(name) for test in defined) if shortened else name in defined):
            yield name


def missing_paths(text):
    """Yields the paths that a text names and that do not exist: from the root, or from the folder in the heading above."""
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        folder = re.match(r"## `([^`]+)`", section)
        bases = [ROOT, *((ROOT / folder[1], ROOT / folder[1] / "src") if folder else ())]
        for path in PATH.findall(section):
            if not any((base / path).exists() for base in bases):
                yield path


def test_links_between_documents_lead_somewhere():
    found = list(documents())
    assert ROOT / "README.md" in found
    assert [f"{document.relative_to(ROOT)}: {target}" for document in found for target in broken_links(document)] == []


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.md").write_text("# One heading\n")
    document = tmp_path / "b.md"
    document.write_text(
        "[a](a.md) [b](a.md#one-heading) [c](https://example.org/) `[d](code)` [e](missing.md) [f](a.md#missing) [g](#none)\n")
    assert list(broken_links(document)) == ["missing.md", "a.md#missing", "#none"]


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "docs/reliability.md"])
def test_files_that_a_document_names_exist(name):
    assert list(missing_paths((ROOT / name).read_text())) == []


def test_missing_files_are_found():
    text = "`tests/` `tests/conftest.py`\n## `signaling/protocol`: a heading\n`hub.rs` `wire.rs` `no_such_file.rs`\n"
    assert list(missing_paths(text)) == ["no_such_file.rs"]
    assert list(missing_paths("`hub.rs`\n")) == ["hub.rs"]


def test_tests_that_the_page_on_reliability_names_exist():
    files = [*(ROOT / "tests").glob("*.py"), *(ROOT / "signaling").rglob("*.rs"), *(ROOT / "gst-plugins").rglob("*.rs")]
    defined = {name for file in files for name in re.findall(r"\b(?:def|fn) (\w+)", file.read_text())}
    assert list(missing_tests((ROOT / "docs/reliability.md").read_text(), defined)) == []


def test_missing_tests_are_found():
    text = "`test_one` `test_other` `a_long_name_of_a_test` `a_long_name_…` `some_long_name_…` `a_property`"
    assert list(missing_tests(text, {"test_one", "a_long_name_of_a_test"})) == ["test_other", "some_long_name_"]
