"""Without manual tuning, x264enc sends constrained baseline with low latency, which every receiver decodes."""

import json

import pytest

from bed import frames
from bed.bed import Bed, picture

# Stock x264enc would add 46 frames, 1.5 s.
WORST_P50_MS = 150

UPSTREAMS = {
    "bare": "x264enc",
    "parser-and-queues": "queue ! x264enc ! queue ! h264parse ! queue",
    "avc": "x264enc ! video/x-h264,stream-format=avc ! h264parse",
    # The caps of a depayloader contain no profile.
    "depayloaded": "x264enc tune=zerolatency key-int-max=60 ! video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 ! rtph264depay",
    "high-profile": "x264enc tune=zerolatency key-int-max=60 ! video/x-h264,profile=high",
    "main-profile": "x264enc ! video/x-h264,profile=main",
}
# Upstreams without caps that fix the profile.
FREE = ("bare", "parser-and-queues")


@pytest.mark.parametrize("name", UPSTREAMS)
def test_an_untuned_encoder_sends_with_low_latency(bed: Bed, name: str):
    sender = bed.pipeline("camera", f"{picture(640, 480)} ! {UPSTREAMS[name]} ! {bed.sink('客厅')}")
    bed.wait_state(sender)
    receiver = bed.receiver("客厅", decode="tee name=t t. ! queue ! h264parse ! appsink name=stream sync=false async=false t. ! queue ! "
                            "h264parse ! avdec_h264 max-threads=1 ! videoconvert ! video/x-raw,format=I420 ! appsink name=frames sync=false async=false")
    seen = frames.watch(receiver, 4)
    frames.check_flow(seen, 4)
    ages = frames.latency(seen)
    print(json.dumps({"upstream": name, "latency_ms": ages}))
    assert ages["p50"] <= WORST_P50_MS

    units = receiver.of("unit")
    if name in FREE:
        assert all("profile=(string)constrained-baseline" in unit["caps"] for unit in units), units[0]["caps"]
    stamps = [unit["pts"] for unit in units]
    assert stamps == sorted(stamps), "access units must not be reordered"


@pytest.mark.parametrize("name", ["high-profile", "main-profile", "bare"])
def test_chromium_decodes_an_untuned_stream(bed: Bed, name: str):
    sender = bed.pipeline("camera", f"{picture()} ! {UPSTREAMS[name]} ! {bed.sink('客厅')}")
    bed.wait_state(sender)
    frames.check_flow(frames.watch(bed.browser("客厅"), 3), 3)


def test_the_documented_command_sends_constrained_baseline(bed: Bed):
    """The command of the documentation, apart from the address of the server."""
    bed.gst_launch("launch", f"videotestsrc is-live=true ! x264enc ! roomwebrtcsink room=客厅 signaling-uri={bed.uri}")
    receiver = bed.receiver("客厅", decode="h264parse ! appsink name=stream sync=false async=false")
    receiver.wait("two seconds of video", lambda: len(receiver.of("unit")) >= 60)
    assert all("profile=(string)constrained-baseline" in unit["caps"] for unit in receiver.of("unit"))


def test_b_frames_are_refused_with_the_fix(bed: Bed):
    sender = bed.pipeline(
        "camera", f"{picture()} ! x264enc bframes=2 b-adapt=false ! video/x-h264,profile=main ! {bed.sink('living_room', more='tune-upstream=false')}",
        "--keep-on-error")
    error = sender.wait("an error", lambda: sender.of("bus", kind="error"))[0]
    assert "B-frame" in error["message"] + error["debug"], error
