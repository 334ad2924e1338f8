"""A RealSense camera in a room: the documented command, with a receiver that checks every pixel."""

import sys

import numpy as np

from bed import frames
from bed.bed import DECODE_ANY, PROGRAMS, ROOT, SYSTEM_PYTHON, Bed
from bed.realsense import buffers, source
from bed.recording import Recording, to_i420

sys.path.insert(0, str(PROGRAMS))
import barcode  # noqa: E402

KEEP = "h264parse ! avdec_h264 max-threads=1 ! videoconvert ! video/x-raw,format=I420 ! appsink name=kept sync=false async=false"
# The permitted error of pixels after x264 at its default bit rate: the average, and a bound for nearly all pixels.
AVERAGE, NEARLY_ALL = 3, 24


def test_the_documented_command_sends_a_camera(bed: Bed, rgbd: Recording):
    receiver = bed.pipeline(
        "watcher", f"roomwebrtcsrc name=room room=living_room client-id=watcher signaling-uri={bed.uri}",
        f"--each-pad={KEEP}", f"--kept-folder={bed.logs}", receiving=True)
    sender = bed.gst_launch("launch", f"realsensesrc recording-location={rgbd.path} loop=true ! x264enc ! roomwebrtcsink "
                                      f"room=living_room signaling-uri={bed.uri}")
    receiver.wait("two rounds of pictures", lambda: len(receiver.of("buffer")) >= 2 * len(rgbd.samples["color"]), 30)
    sender.stop(2)
    receiver.stop()
    compared = set()
    for buffer in buffers(bed.logs, receiver):
        planes = np.frombuffer(buffer.data, np.uint8)
        luma = planes[: 320 * 240].reshape(240, 320)
        mark = barcode.read(luma)
        assert mark, "the bar code of a picture is illegible"
        compared.add(mark.counter)
        wanted = to_i420(rgbd.samples["color"][mark.counter])
        chroma = planes[320 * 240 :].reshape(2, 120, 160)
        for name, plane, true in zip("YUV", (luma, *chroma), wanted):
            off = np.abs(plane.astype(int) - true)
            assert off.mean() < AVERAGE and np.quantile(off, 0.99) < NEARLY_ALL, (name, mark.counter, off.mean())
    assert len(compared) >= 0.9 * len(rgbd.samples["color"])


def test_a_browser_shows_a_camera(bed: Bed, rgbd: Recording):
    bed.gst_launch("launch", f"realsensesrc recording-location={rgbd.path} loop=true ! x264enc ! roomwebrtcsink "
                             f"room=living_room signaling-uri={bed.uri}")
    browser = bed.browser("living_room")
    browser.wait("many pictures", lambda: len(frames.counters(frames.frames(browser))) > 0.8 * len(rgbd.samples["color"]), 30)


def test_one_sender_sends_color_and_depth(bed: Bed, rgbd: Recording):
    sender = bed.pipeline(
        "camera", f"roomwebrtcsink name=room room=living_room signaling-uri={bed.uri} {source(rgbd, 'loop=true colorize=true')} "
                  "camera.src ! queue ! x264enc ! room. camera.depth ! queue ! x264enc ! room.")
    bed.wait_state(sender)
    receiver = bed.receiver("living_room", decode=DECODE_ANY)
    for pad in ("video_0", "video_1"):
        receiver.wait(f"pictures on {pad}", lambda p=pad: len(frames.frames(receiver, pad=p)) > 30, 20)
    legible = {pad: any("counter" in f for f in frames.frames(receiver, pad=pad)) for pad in ("video_0", "video_1")}
    assert legible == {"video_0": True, "video_1": False}, "the first stream must be color, with its bar code"


def test_the_demo_plays_a_recording(bed: Bed, rgbd: Recording):
    demo = [SYSTEM_PYTHON, str(ROOT / "scripts" / "demo.py")]
    bed.start("demo", [*demo, "send", bed.uri, "living_room", "realsense", str(rgbd.path)], bed.network.senders)
    watch = bed.start("watch", [*demo, "watch", bed.uri, "living_room", "3"], bed.network.receivers)
    watch.wait("the end of the process", lambda: not watch.running())
    assert watch.popen.returncode == 0, watch.tail()  # It fails unless it read the clock in the pictures.
