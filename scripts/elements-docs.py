#!/usr/bin/env python3
"""Generates the tables of docs/elements.md from the output of gst-inspect-1.0.

    scripts/elements-docs.py           updates the tables
    scripts/elements-docs.py --check   changes nothing, and fails if the tables are out of date

GST_PLUGIN_PATH has to contain the folder of the built plugins. A table follows a marker, a line such as

    <!-- gst-inspect roomwebrtcsink properties -->

and ends at the next `<!-- end -->`. Parts: properties, signals, actions, pads.
"""

import argparse
import pathlib
import re
import subprocess
import sys

DOCUMENT = pathlib.Path(__file__).resolve().parents[1] / "docs" / "elements.md"
MARKER = re.compile(r"(<!-- gst-inspect (\S+) (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# Properties and signals of every GstBin.
INHERITED = {"async-handling", "message-forward", "name", "parent"}
INHERITED_SIGNALS = {"pad-added", "pad-removed", "no-more-pads"}
TYPES = {"gchararray": "string", "gboolean": "boolean", "GstElement*": "element", "GBytes*": "bytes", "void": ""}


def inspect(element: str) -> str:
    """The output of gst-inspect-1.0, without colors."""
    command = ["gst-inspect-1.0", "--no-colors", element]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def section(text: str, title: str) -> str:
    """The indented lines below a title of column 0."""
    found = re.search(rf"^{title}:[^\n]*\n((?:[ \t][^\n]*\n|\n(?=[ \t]))*)", text, re.MULTILINE)
    return found.group(1) if found else ""


def cell(text: str) -> str:
    return text.replace("|", "\\|").strip()


def access(flags: str) -> str:
    """When a property can be set."""
    if "writable" not in flags:
        return "read-only"
    return "any state" if "PLAYING" in flags else "READY"


def default(details: str) -> str:
    """The default in the syntax of gst-launch-1.0, with the range of a number and the values of an enumeration."""
    value = re.search(r"Default: (.*)", details)
    value = value.group(1).strip() if value else ""
    value = re.sub(r'^-?\d+, "(.*)"$', r"\1", value).replace("(string)", "").strip('"')
    value = "" if value == "<  >" else value
    choices = re.findall(r"^ +\(-?\d+\): (\S+) ", details, re.MULTILINE)
    span = re.search(r"Range: +(\S+) - +(\S+)", details)
    limits = f" ({span.group(1)} to {span.group(2)})" if span and span.group(2) != str(2**32 - 1) else ""
    among = f" (of {', '.join(choices)})" if choices else ""
    return f"`{value}`{limits}{among}" if value else ""


def properties(text: str) -> list[str]:
    """A row for each property that is the element's own."""
    rows = ["| property | default | set in | |", "| --- | --- | --- | --- |"]
    entries = re.split(r"^  (?=\S+ *: )", section(text, "Element Properties"), flags=re.MULTILINE)[1:]
    for entry in entries:
        head, _, rest = entry.partition("\n")
        name, _, blurb = head.partition(":")
        if (name := name.strip()) not in INHERITED:
            flags = re.search(r"flags: (.*)", rest).group(1)
            value = "" if access(flags) == "read-only" else default(rest)
            rows.append(f"| `{name}` | {value} | {access(flags)} | {cell(blurb)} |")
    return rows


def callbacks(text: str, title: str) -> list[str]:
    """A row for each signal or action: its arguments and its result."""
    rows = ["| name | arguments | result |", "| --- | --- | --- |"]
    for name, result, arguments in re.findall(r'"([\w-]+)" : +(\S+) user_function \(([^)]*)\)', section(text, title)):
        types = [argument.split()[0] for argument in arguments.split(",")]
        types = [TYPES.get(kind, kind.rstrip("*")) for kind in types[1:] if kind != "gpointer"]
        if name not in INHERITED_SIGNALS:
            rows.append(f"| `{name}` | {', '.join(types)} | {TYPES.get(result, result)} |")
    return rows


def pads(text: str) -> list[str]:
    """A row for each pad template: its caps by media type."""
    rows = ["| pad | direction | presence | media types |", "| --- | --- | --- | --- |"]
    entries = re.findall(r"^  (SINK|SRC) template: '([^']+)'\n((?:    .*\n|  *\n)*)", section(text, "Pad Templates"), re.MULTILINE)
    for direction, name, details in entries:
        presence = re.search(r"Availability: (.*)", details).group(1).lower()
        kinds = dict.fromkeys(re.findall(r"^ {6}([\w]+/[\w.+-]+)", details, re.MULTILINE))
        rows.append(f"| `{name}` | {direction.lower()} | {presence} | {', '.join(f'`{kind}`' for kind in kinds)} |")
    return rows


PARTS = {
    "properties": properties,
    "signals": lambda text: callbacks(text, "Element Signals"),
    "actions": lambda text: callbacks(text, "Element Actions"),
    "pads": pads,
}


def filled(document: str) -> str:
    """The document with every table generated again."""
    texts: dict[str, str] = {}

    def part(found: re.Match) -> str:
        begin, element, kind, _old, end = found.groups()
        text = texts.setdefault(element, "") or texts.update({element: inspect(element)}) or texts[element]
        return begin + "\n".join(PARTS[kind](text)) + "\n" + end

    return MARKER.sub(part, document)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the tables are out of date")
    options = parser.parse_args()
    before = DOCUMENT.read_text(encoding="utf-8")
    after = filled(before)
    if options.check:
        if before != after:
            sys.stdout.write(f"{DOCUMENT} does not agree with gst-inspect-1.0: run scripts/elements-docs.py\n")
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
