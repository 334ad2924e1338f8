"""The programs in pipelines/ run in a real room; lines that need other hardware are parsed."""

import pathlib
import shlex
import subprocess

import pytest

from bed import frames, network
from bed.bed import DECODE_ANY, PORT, PYTHON, ROOT, VP8, X264, Bed, plugin_environment
from bed.recording import Recording

PIPELINES = ROOT / "pipelines"
SCRIPTS = sorted(PIPELINES.glob("*.sh"))


def dry(script: pathlib.Path, *arguments: str) -> list[str]:
    """The gst-launch-1.0 line that a script would run."""
    out = subprocess.run([str(script), *arguments, "--dry-run"], check=True, capture_output=True, text=True).stdout
    return shlex.split(out)


def parse(line: list[str], registry: pathlib.Path, built: pathlib.Path) -> None:
    """Lets GStreamer parse a line without running it, so that all elements, properties and caps must exist."""
    program = ("import sys, gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; Gst.init(None); "
               "Gst.parse_launchv(sys.argv[1:])")
    subprocess.run(["/usr/bin/python3", "-c", program, *[a for a in line[1:] if a not in ("-e", "-v")]], check=True,
                   capture_output=True, text=True,
                   env={"PATH": "/usr/bin:/bin", **plugin_environment(built, registry)})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.name)
def test_the_line_of_a_script_parses(script: pathlib.Path, registry: pathlib.Path, built: pathlib.Path):
    parse(dry(script, "--room", "客厅 \"1\""), registry, built)


@pytest.mark.parametrize("arguments", [
    ("send-test.sh", "--codec", "vp8", "--serve"), ("send-v4l2.sh", "--mjpeg", "--size", "1920x1080"),
    ("send-realsense.sh", "--serial", "12", "--size", "640x480", "--fps", "30", "--codec", "vp8"), ("send-realsense-depth.sh", "--smooth"),
    ("send-realsense-rgbd.sh", "--align", "none", "--recording", "walk \"2\".bag", "--loop"),
    ("receive-record.sh", "--split", "60", "--file", "part-%03d.mp4", "--sender", "camera"), ("receive-display.sh", "--latency", "0"),
], ids=lambda a: " ".join(a[:2]))
def test_a_line_with_options_parses(arguments: tuple[str, ...], registry: pathlib.Path, built: pathlib.Path):
    parse(dry(PIPELINES / arguments[0], *arguments[1:]), registry, built)


def run(bed: Bed, script: str, *arguments: str, receiving: bool = True):
    namespace = bed.network.receivers if receiving else bed.network.senders
    return bed.start(script, [str(PIPELINES / script), "--server", bed.uri, "--room", "living_room", *arguments], namespace)


def succeeds(process, timeout: float = 30) -> None:
    process.wait("the end of the process", lambda: not process.running(), timeout)
    assert process.popen.returncode == 0, process.tail()


def test_send_test_and_receive_fakesink(bed: Bed):
    run(bed, "send-test.sh", "--size", "320x240", receiving=False)
    succeeds(run(bed, "receive-fakesink.sh", "--frames", "60"))


def test_send_test_exits_after_its_frames(bed: Bed):
    succeeds(run(bed, "send-test.sh", "--size", "320x240", "--frames", "60", receiving=False))


def test_receive_record_finishes_a_playable_file_on_ctrl_c(bed: Bed):
    bed.sender("living_room")
    path = bed.logs / "recording.mp4"
    recorder = run(bed, "receive-record.sh", "--file", str(path))
    recorder.wait("some data", lambda: path.exists() and path.stat().st_size > 50_000)
    assert recorder.stop(number=2) == 0, recorder.tail()  # Ctrl-C finishes the file.
    player = bed.pipeline("player", f"filesrc location={path} ! {DECODE_ANY}", receiving=True)
    player.wait_for("bus", kind="eos")
    got = frames.frames(player)
    assert len(frames.counters(got)) >= 30 and len(got) == len(frames.counters(got))


def test_receive_record_survives_senders_of_another_size_and_codec(bed: Bed):
    path = bed.logs / "recording.mp4"
    recorder = run(bed, "receive-record.sh", "--file", str(path))
    for size, encoder, minimum in (((320, 240), X264, 50_000), ((320, 240), VP8, 0), ((640, 480), X264, 150_000)):
        sender = bed.sender("living_room", encoder=encoder, size=size)
        if minimum:
            recorder.wait("data of the sender", lambda m=minimum: path.exists() and path.stat().st_size > m, 30)
        else:
            recorder.wait("the warning about the codec", lambda: "codecs h264" in recorder.log.read_text() + recorder.tail(), 20)
        sender.stop()
    assert recorder.stop(number=2) == 0, recorder.tail()
    player = bed.pipeline("player", f"filesrc location={path} ! {DECODE_ANY}", receiving=True)
    player.wait_for("bus", kind="eos")
    got = frames.frames(player)
    assert {(f["width"], f["height"]) for f in got} == {(320, 240), (640, 480)}
    assert len(got) >= 60


def test_ctrl_c_stops_a_receiver_without_a_sender(bed: Bed):
    watcher = bed.gst_launch("watch", f"roomwebrtcsrc room=empty client-id=watcher signaling-uri={bed.uri} ! decodebin ! fakesink",
                             "-e", receiving=True)
    bed.wait_members("empty", {"watcher"})
    assert watcher.stop(number=2) == 0, watcher.tail()
    bed.wait_members("empty", set())


@pytest.mark.parametrize("codec, encoder", [("h264", X264), ("vp8", VP8)])
def test_receiver_py_records_a_stream(bed: Bed, codec: str, encoder: str):
    bed.sender("living_room", encoder=encoder)
    path = bed.logs / "recording.mp4"
    receiver = bed.start("receiver.py", [
        PYTHON, str(PIPELINES / "receiver.py"), "--server-ip", network.SENDERS, "--server-port", str(PORT),
        "--client-id", "python", "--room-id", "living_room", "--codec", codec, "--record", str(path), "--frames", "60",
    ], bed.network.receivers)
    succeeds(receiver)
    player = bed.pipeline("player", f"filesrc location={path} ! {DECODE_ANY}", receiving=True)
    player.wait_for("bus", kind="eos")
    assert len(frames.counters(frames.frames(player))) >= 50


@pytest.mark.parametrize("script, pads", [
    ("send-realsense.sh", 1), ("send-realsense-depth.sh", 1), ("send-realsense-rgbd.sh", 2)], ids=lambda v: str(v))
def test_each_realsense_script_sends_a_recording(bed: Bed, rgbd: Recording, script: str, pads: int):
    run(bed, script, "--recording", str(rgbd.path), "--loop", receiving=False)
    receiver = bed.receiver("living_room")
    for pad in (f"video_{i}" for i in range(pads)):
        receiver.wait(f"pictures on {pad}", lambda p=pad: len(frames.frames(receiver, pad=p)) > 30, 30)
    assert {f["pad"] for f in frames.frames(receiver)} == {f"video_{i}" for i in range(pads)}
    # Color contains the recorded bar code; depth does not.
    legible = any("counter" in f for f in frames.frames(receiver, pad="video_0"))
    assert legible == (script != "send-realsense-depth.sh")
