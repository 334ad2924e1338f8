"""The same plugin file on GStreamer 1.26 (a Debian 13 tree): one sender and one receiver, with 1.22 at the other end.

The tree has no Python, so this test draws and reads the pictures, and passes them through pipes.
"""

import collections.abc
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from bed import frames
from bed.bed import PROGRAMS, RATE, RELEASE, ROOT, Bed
from bed.network import Network

sys.path.insert(0, str(PROGRAMS))
import barcode  # noqa: E402

TREE = ROOT / ".cache" / "trixie"
WIDTH, HEIGHT, SECONDS = 320, 240, 10
PICTURE = WIDTH * HEIGHT * 3 // 2
LATER = ["env", "GST_PLUGIN_PATH=/opt/room", "GST_REGISTRY=/opt/room/registry.bin", "GST_DEBUG=2", "GST_DEBUG_NO_COLOR=1"]


@pytest.fixture(scope="module")
def tree(built: pathlib.Path) -> pathlib.Path:
    """The Debian 13 tree with the plugin and a GStreamer registry."""
    assert (TREE / "usr/bin/gst-launch-1.0").exists(), f"{TREE} is missing: run scripts/setup.sh test"
    room = TREE / "opt/room"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir(parents=True)
    shutil.copy(RELEASE / "libgstroomwebrtc.so", room)
    version = subprocess.run(["chroot", str(TREE), *LATER, "gst-inspect-1.0", "roomwebrtcsink"],
                             check=True, capture_output=True, text=True).stdout
    assert "roomwebrtcsink" in version
    return TREE


def later(bed: Bed, namespace: str, log: pathlib.Path, description: str, **pipes: int) -> subprocess.Popen:
    """Starts gst-launch-1.0 of the tree in a namespace."""
    command = Network.within(namespace, ["chroot", str(TREE), *LATER, "gst-launch-1.0", "-q", *description.split()])
    with log.open("w") as errors:
        return subprocess.Popen(command, stderr=errors, **pipes)


def ending(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def test_the_tree_has_gstreamer_1_26(tree: pathlib.Path):
    out = subprocess.run(["chroot", str(tree), "gst-launch-1.0", "--version"], check=True, capture_output=True, text=True).stdout
    assert "GStreamer 1.26" in out


def test_a_sender_on_1_26_reaches_a_receiver_on_1_22(bed: Bed, tree: pathlib.Path):
    log = bed.logs / "sender-126.log"
    sender = later(
        bed, bed.network.senders, log,
        f"fdsrc is-live=true do-timestamp=true blocksize={PICTURE} ! rawvideoparse format=i420 width={WIDTH} height={HEIGHT} "
        f"framerate={RATE}/1 ! x264enc ! roomwebrtcsink room=living_room client-id=camera signaling-uri={bed.uri}",
        stdin=subprocess.PIPE)
    stop = threading.Event()

    def feed():
        painter, due = barcode.Painter(WIDTH, HEIGHT, 1), time.monotonic()
        while not stop.is_set():
            try:
                sender.stdin.write(painter.paint())
                sender.stdin.flush()
            except BrokenPipeError:
                return
            due += 1 / RATE
            time.sleep(max(0.0, due - time.monotonic()))

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        receiver = bed.receiver("living_room")
        seen = frames.watch(receiver, SECONDS)
        frames.check_flow(seen, SECONDS)
        print(frames.latency(seen))
    finally:
        stop.set()
        feeder.join()
        ending(sender)
    assert "panicked" not in log.read_text()


def pictures(stream: collections.abc.Iterable[bytes]) -> list[dict]:
    """The contents of the bar codes in raw pictures, in the form of `frame` events."""
    events = []
    for data in stream:
        mark = barcode.read(np.frombuffer(data, np.uint8, count=WIDTH * HEIGHT).reshape(HEIGHT, WIDTH))
        events.append({"t": time.time(), **({} if mark is None else {**mark._asdict(), "latency_ms": barcode.age_ms(mark)})})
    return events


def test_a_sender_on_1_22_reaches_a_receiver_on_1_26(bed: Bed, tree: pathlib.Path):
    bed.sender("living_room")
    log = bed.logs / "receiver-126.log"
    receiver = later(
        bed, bed.network.receivers, log,
        f"roomwebrtcsrc room=living_room client-id=watcher signaling-uri={bed.uri} ! queue ! h264parse ! avdec_h264 max-threads=1 "
        "! videoconvert ! video/x-raw,format=I420 ! fdsink sync=false", stdout=subprocess.PIPE)
    try:
        def stream():
            first = None
            while data := receiver.stdout.read(PICTURE):
                yield data
                first = first or time.time()
                if time.time() - first >= SECONDS:
                    return

        deadline = threading.Timer(SECONDS + 20, receiver.kill)
        deadline.start()
        seen = pictures(stream())
        deadline.cancel()
        frames.check_flow(seen, SECONDS)
        print(frames.latency(seen))
    finally:
        ending(receiver)
    assert "panicked" not in log.read_text()
