"""Errors of realsensesrc are posted within two seconds and name the fix."""

import pathlib
import time

import pytest

from bed import recording
from bed.bed import Programs
from bed.realsense import source, start
from bed.recording import Recording

SOON = 2


def error(programs: Programs, description: str) -> str:
    """Starts a pipeline and returns its error, which must not take long."""
    process = start(programs, description, "--start=", "--keep-on-error")
    began = time.time()
    process.ask("state", value="PLAYING")
    event = process.wait_for("bus", kind="error", timeout=10)
    assert event["t"] - began < SOON, f"{event['message']} came after {event['t'] - began:.1f} s"
    process.ask("state", value="NULL")
    return event["message"]


def check_words(message: str, *words: str) -> None:
    missing = [word for word in words if word.lower() not in message.lower()]
    assert not missing, f"{missing} is not in: {message}"


def test_a_missing_camera_is_an_error(programs: Programs):
    check_words(error(programs, "realsensesrc ! fakesink"), "no RealSense camera", "USB", "recording-location")


def test_an_unknown_serial_number_is_an_error(programs: Programs):
    check_words(error(programs, "realsensesrc serial=123456 ! fakesink"), "123456", "set serial to", "none")


def test_a_recording_of_another_camera_is_an_error(programs: Programs, rgbd: Recording):
    check_words(error(programs, f"{source(rgbd)} serial=123456 ! fakesink"), "123456", "SW0001")


def test_a_missing_recording_is_an_error(programs: Programs):
    check_words(error(programs, "realsensesrc recording-location=/nowhere/walk.bag ! fakesink"), "/nowhere/walk.bag", "recording-location")


@pytest.mark.parametrize("damage", ["empty", "of-another-kind", "cut-in-its-head", "cut-in-the-middle", "zeros-within"])
def test_a_damaged_recording_is_an_error(programs: Programs, rgbd: Recording, tmp_path: pathlib.Path, damage: str):
    whole = rgbd.path.read_bytes()
    path = tmp_path / "damaged.bag"
    path.write_bytes({
        "empty": b"", "of-another-kind": b"RIFF" + bytes(10_000), "cut-in-its-head": whole[:3000],
        "cut-in-the-middle": whole[: len(whole) // 2], "zeros-within": whole[:5000] + bytes(len(whole) - 5000),
    }[damage])
    check_words(error(programs, f"realsensesrc recording-location={path} ! fakesink"), str(path), "recording-location", "can't be played")


@pytest.mark.parametrize("caps", [
    "video/x-raw,width=1280,height=720", "video/x-raw,framerate=90/1", "video/x-raw,format=GRAY16_LE",
], ids=["size", "rate", "depth-from-color"])
def test_impossible_caps_are_an_error(programs: Programs, rgbd: Recording, caps: str):
    check_words(error(programs, f"{source(rgbd)} ! {caps} ! fakesink"), "320x240", "30")


def test_a_missing_stream_is_an_error(programs: Programs, tmp_path: pathlib.Path):
    recorded = recording.make(tmp_path / "color.bag", 0.3, recording.color_yuyv())
    check_words(error(programs, f"{source(recorded)} stream=infrared2 ! fakesink"), "infrared2", "color")


def test_an_element_without_links_is_an_error(programs: Programs, rgbd: Recording):
    check_words(error(programs, source(rgbd)), "link")


def test_a_missing_preset_is_an_error(programs: Programs, rgbd: Recording):
    check_words(error(programs, f"{source(rgbd)} json-preset=/nowhere/preset.json ! fakesink"), "/nowhere/preset.json", "json-preset")
