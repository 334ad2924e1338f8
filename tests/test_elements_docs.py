"""docs/elements.md agrees with gst-inspect-1.0 and with the messages and statistics of running elements."""

import os
import pathlib
import re
import subprocess
import sys

from bed import frames
from bed.bed import RELEASE, ROOT, Bed, plugin_environment

DOCUMENT = ROOT / "docs" / "elements.md"


def test_the_tables_agree_with_gst_inspect(registry: pathlib.Path):
    checked = subprocess.run([sys.executable, str(ROOT / "scripts" / "elements-docs.py"), "--check"], capture_output=True, text=True,
                             env={**os.environ, **plugin_environment(RELEASE, registry)})
    assert checked.returncode == 0, checked.stdout + checked.stderr


def documented(heading: str) -> str:
    """The section of the document below a heading of the second level."""
    parts = re.split(r"^## ", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return next(part for part in parts if part.startswith(f"{heading}\n"))


def test_every_field_of_the_statistics_and_of_messages_is_documented(bed: Bed):
    sender, receiver = bed.sender("living_room"), bed.receiver("living_room")
    frames.wait_first(receiver)

    def connected() -> str | None:
        text = sender.ask("get", element="room", property="stats")["text"].replace("\\", "")
        return text if "state=(string)connected" in text and "report-age-ms" in text else None

    text = sender.wait("statistics of the receiver", connected)
    # The fields of webrtcbin's own statistics are documented by GStreamer.
    fields = set(re.findall(r"([a-z][a-z-]*)=\(", re.sub(r"webrtc=\(structure\).*", "webrtc=(structure)", text)))
    of_source = set(receiver.ask("get", element="room", property="stats")) - {"name", "text", "webrtc"}
    for element, found in (("roomwebrtcsink", fields), ("roomwebrtcsrc", of_source)):
        missing = {field for field in found if f"`{field}`" not in documented(element)}
        assert not missing, f"{element}: {missing}"
    receiver.stop()
    sender.wait_for("signal", name="receiver-removed", id="watcher")
    for element, process in (("roomwebrtcsink", sender), ("roomwebrtcsrc", receiver)):
        messages = {e["name"] for e in process.of("bus", kind="element") if e["name"].startswith("room-")}
        assert messages, element
        missing = {name for name in messages if f"| `{name}` |" not in documented(element)}
        assert not missing, f"{element}: {missing}"
