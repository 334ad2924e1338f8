"""Time in realsensesrc: timestamps, pace, loops, EOS, state changes."""

import time

import pytest

from bed.bed import Programs
from bed.realsense import ASYNC, buffers, play, source, start
from bed.recording import STARTED_MS, Recording

FRAME = 1_000_000_000 / 30
LIVE = ""  # The default is real time.


def stamps(got) -> list[int]:
    return [b.event["pts"] for b in got]


@pytest.mark.parametrize("pace", ["real-time=true", "real-time=false"])
def test_timestamps_are_those_of_the_device(programs: Programs, rgbd: Recording, pace: str):
    got = play(programs, f"{source(rgbd, pace)} ! appsink name=kept {ASYNC}")["kept"]
    assert len(got) >= 0.9 * len(rgbd.samples["color"])
    for buffer in got:
        passed = (buffer.number - got[0].number) * FRAME
        assert abs(buffer.event["pts"] - got[0].event["pts"] - passed) < 2_000_000, "timestamps must follow the clock of the device"
        assert buffer.event["reference"]["caps"].startswith("timestamp/x-realsense")
        assert abs(buffer.event["reference"]["ns"] - STARTED_MS * 1_000_000 - buffer.number * FRAME) < 1000
        assert abs(buffer.event["duration"] - FRAME) < 1000


def test_a_recording_plays_in_real_time(programs: Programs, rgbd: Recording):
    process = start(programs, f"{source(rgbd, LIVE)} ! appsink name=kept {ASYNC}", "--start=")
    assert process.ask("state", value="PAUSED") == "no-preroll"
    process.ask("state", value="PLAYING")
    process.wait_for("bus", kind="eos")
    got = buffers(programs.logs, process)
    took = got[-1].event["t"] - got[0].event["t"]
    assert 1.7 <= took <= 2.6, f"two seconds took {took:.1f}"
    # Each buffer arrives when it is due according to its timestamp.
    late = sorted(b.event["arrived"] - b.event["pts"] for b in got)
    assert -5_000_000 <= late[0] and late[len(late) // 2] < 60_000_000


def test_a_recording_plays_as_fast_as_downstream_accepts(programs: Programs, rgbd: Recording):
    process = start(programs, f"{source(rgbd)} ! appsink name=kept {ASYNC}", "--start=")
    assert process.ask("state", value="PAUSED") != "no-preroll"
    process.ask("state", value="PLAYING")
    process.wait_for("bus", kind="eos")
    got = buffers(programs.logs, process)
    assert len(got) == len(rgbd.samples["color"])
    assert got[-1].event["t"] - got[0].event["t"] < 1.5


def test_timestamps_continue_in_a_loop(programs: Programs, rgbd: Recording):
    process = start(programs, f"{source(rgbd, 'loop=true')} ! appsink name=kept {ASYNC}")
    recorded = len(rgbd.samples["color"])
    process.wait("the third time", lambda: len(process.of("buffer")) > 2.2 * recorded)
    process.stop()
    got = buffers(programs.logs, process)
    seams = [i for i in range(1, len(got)) if got[i].number < got[i - 1].number]
    assert len(seams) >= 2
    times = stamps(got)
    gaps = [after - before for before, after in zip(times, times[1:])]
    assert min(gaps) > 0, "timestamps must increase"
    for seam in seams:
        assert gaps[seam - 1] < 20 * FRAME, "timestamps must not jump where the recording restarts"
    assert not process.of("bus", kind="eos")


def test_a_seek_is_refused_and_the_stream_continues(programs: Programs, rgbd: Recording):
    process = start(programs, f"{source(rgbd, 'loop=true')} ! appsink name=kept {ASYNC}")
    process.wait_for("buffer")
    assert process.ask("seek", to=0) is False
    before = len(process.of("buffer"))
    process.wait("more pictures", lambda: len(process.of("buffer")) > before + 10)
    assert not process.of("bus", kind="error")


def test_the_latency_is_at_least_one_frame(programs: Programs, rgbd: Recording):
    process = start(programs, f"{source(rgbd, 'loop=true')} ! appsink name=kept sync=true")
    process.wait_for("buffer")
    live, least, most = process.ask("latency")
    assert live and FRAME <= least + 1000 and least <= 3 * FRAME and most >= least


@pytest.mark.parametrize("description", [
    "! fakesink", "stream=depth ! identity sleep-time=200000 ! fakesink",
    "align=color camera.src ! queue ! fakesink camera.depth ! queue ! fakesink",
], ids=["color", "a-slow-sink", "two-pads"])
def test_the_element_stops_within_a_second(programs: Programs, rgbd: Recording, description: str):
    process = start(programs, f"{source(rgbd, 'loop=true')} {description}")
    process.wait_for("state", new="playing")
    time.sleep(0.3)  # At an arbitrary moment of the stream.
    began = time.monotonic()
    process.ask("state", value="NULL")
    assert time.monotonic() - began < 1


def test_the_element_plays_again_after_null(programs: Programs, rgbd: Recording):
    process = start(programs, f"{source(rgbd, 'loop=true')} ! appsink name=kept {ASYNC}")
    for _ in range(3):
        before = len(process.of("buffer"))
        process.wait("pictures", lambda b=before: len(process.of("buffer")) > b + 5)
        process.ask("state", value="NULL")
        process.ask("state", value="PLAYING")


def test_no_old_pictures_follow_a_pause(programs: Programs, rgbd: Recording):
    process = start(programs, f"{source(rgbd, 'loop=true')} ! appsink name=kept {ASYNC}")
    process.wait_for("buffer")
    process.ask("state", value="PAUSED")
    time.sleep(1)
    process.ask("state", value="PLAYING")
    resumed = time.time()
    process.wait("pictures after the pause", lambda: [e for e in process.of("buffer") if e["t"] > resumed + 0.5])
    after = [e for e in process.of("buffer") if e["t"] > resumed + 0.2]
    assert max(e["arrived"] - e["pts"] for e in after) < 150_000_000
