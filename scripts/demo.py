#!/usr/bin/python3
"""The two ends of the demo: `demo.py send URI ROOM [realsense [RECORDING]]` and `demo.py watch URI ROOM [SECONDS]`.

The sender is `videotestsrc ! x264enc ! roomwebrtcsink`, with v4l2src or realsensesrc if there is a camera. It draws a clock in a
corner of the picture. The watcher reads the clock, and thus knows the age of each decoded picture.
"""

import pathlib
import signal
import statistics
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
from gi.repository import GLib, Gst, GstApp  # noqa: E402, F401 (GstApp gives appsrc its methods)

import numpy as np  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "bed" / "programs"))
import barcode  # noqa: E402

WIDTH, HEIGHT, RATE = 640, 480, 30
RAW = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT}"
# The width of the clock in the corner. Each of its cells is a macroblock wide.
CLOCK_WIDTH = 16 * barcode.COLUMNS


def luma(memory: bytes) -> np.ndarray:
    return np.frombuffer(memory, np.uint8, count=WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)


def run(pipeline: Gst.Pipeline, seconds: float | None = None) -> None:
    """Plays until a signal, EOS, an error, or for some seconds. An error becomes the exit message."""
    loop = GLib.MainLoop()
    failure = None

    def message(_bus, message):
        nonlocal failure
        if message.type == Gst.MessageType.ERROR:
            error, debug = message.parse_error()
            failure = f"{message.src.get_name()}: {error.message}\n{debug}"
            loop.quit()
        elif message.type == Gst.MessageType.LATENCY:
            pipeline.recalculate_latency()
        elif message.type == Gst.MessageType.EOS:
            loop.quit()

    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message", message)
    for number in (signal.SIGINT, signal.SIGTERM):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, loop.quit)
    if seconds:
        GLib.timeout_add(int(seconds * 1000), loop.quit)
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    pipeline.set_state(Gst.State.NULL)
    if failure:
        sys.exit(failure)


def camera(kind: str) -> str:
    """The source: a RealSense camera if requested, otherwise the first camera of this machine, otherwise the test picture."""
    if kind == "realsense":
        return f"realsensesrc name=realsense ! videoconvert ! videoscale ! videorate ! {RAW},framerate={RATE}/1"
    devices = sorted(pathlib.Path("/dev").glob("video*"))
    if devices:
        return f"v4l2src device={devices[0]} ! decodebin ! videoconvert ! videoscale ! videorate ! {RAW},framerate={RATE}/1"
    return f"videotestsrc is-live=true pattern=ball ! {RAW},framerate={RATE}/1"


def send(uri: str, room: str, kind: str = "", recording: str = "") -> None:
    pipeline = Gst.parse_launch(
        f"{camera(kind)} ! appsink name=taken emit-signals=true sync=false max-buffers=2 drop=true "
        f"appsrc name=given is-live=true format=time do-timestamp=true caps={RAW},framerate={RATE}/1 "
        "! queue max-size-buffers=2 ! x264enc ! roomwebrtcsink name=sink")
    sink = pipeline.get_by_name("sink")
    for name, value in (("room", room), ("signaling-uri", uri), ("client-id", "demo-camera")):
        sink.set_property(name, value)
    if recording:
        pipeline.get_by_name("realsense").set_property("recording-location", recording)
        pipeline.get_by_name("realsense").set_property("loop", True)
    given = pipeline.get_by_name("given")
    counter = 0

    def draw(taken):
        nonlocal counter
        buffer = taken.emit("pull-sample").get_buffer()
        picture = bytearray(buffer.extract_dup(0, buffer.get_size()))
        barcode.draw(luma(picture)[:, :CLOCK_WIDTH], counter, 1)
        counter += 1
        return given.push_buffer(Gst.Buffer.new_wrapped(bytes(picture)))

    pipeline.get_by_name("taken").connect("new-sample", draw)
    run(pipeline)


class Watcher:
    """Counts pictures, and prints the rate and latency once a second."""

    def __init__(self):
        self.ages, self.pictures, self.since = [], 0, time.monotonic()
        self.all_ages, self.total, self.first = [], 0, None

    def picture(self, sink):
        buffer = sink.emit("pull-sample").get_buffer()
        self.first = self.first or time.monotonic()
        self.pictures += 1
        mark = barcode.read(luma(buffer.extract_dup(0, WIDTH * HEIGHT))[:, :CLOCK_WIDTH])
        if mark:
            self.ages.append(barcode.age_ms(mark))
        return Gst.FlowReturn.OK

    def report(self):
        now = time.monotonic()
        ages, self.ages = self.ages, []
        pictures, self.pictures = self.pictures, 0
        self.total += pictures
        self.all_ages += ages
        latency = f"{statistics.median(ages):.0f} ms from camera to decoded picture" if ages else "no clock seen"
        line = f"{pictures / (now - self.since):5.1f} frames/s, {latency}" if pictures else "no picture yet"
        print(f"  {line}", flush=True)
        self.since = now
        return True


def watch(uri: str, room: str, seconds: str | None = None) -> None:
    pipeline = Gst.parse_launch(
        "roomwebrtcsrc name=source ! queue ! h264parse ! avdec_h264 max-threads=1 ! videoconvert ! videoscale "
        f"! {RAW} ! appsink name=sink emit-signals=true sync=false")
    source = pipeline.get_by_name("source")
    for name, value in (("room", room), ("signaling-uri", uri), ("client-id", "demo-watcher")):
        source.set_property(name, value)
    watcher = Watcher()
    pipeline.get_by_name("sink").connect("new-sample", watcher.picture)
    GLib.timeout_add(1000, watcher.report)
    run(pipeline, float(seconds) if seconds else None)
    watcher.report()
    if not watcher.all_ages:
        sys.exit("no picture arrived")
    ages = sorted(watcher.all_ages)
    print(f"{watcher.total} frames in {time.monotonic() - watcher.first:.1f} s, latency p50 {ages[len(ages) // 2]:.0f} ms, "
          f"p99 {ages[int(len(ages) * 0.99)]:.0f} ms")


if __name__ == "__main__":
    Gst.init(None)
    {"send": send, "watch": watch}[sys.argv[1]](*sys.argv[2:])
