"""Timing and flow in roomwebrtcsink: pacing, pauses, seeks, sizes, pads, states, Ctrl-C."""

import pathlib
import signal
import time

import pytest

from bed import frames
from bed.bed import RATE, X264, Bed, make_recording, picture
from bed.process import wait_until


@pytest.fixture
def recording(bed: Bed) -> pathlib.Path:
    """A file with twenty seconds of bar-code pictures and a keyframe every second."""
    return make_recording(bed)


def test_a_file_is_paced_and_ends_with_eos(bed: Bed):
    """300 buffers at 30/s take ten seconds. EOS then ends the sessions of the receivers with `bye`."""
    receiver, old = bed.receiver("living_room"), bed.old_client("living_room")
    began = time.time()
    sender = bed.gst_launch(
        "launch", "videotestsrc num-buffers=300 ! video/x-raw,width=320,height=240,framerate=30/1 ! "
                  f"x264enc tune=zerolatency speed-preset=ultrafast ! {bed.sink('living_room')}")
    first = receiver.wait("a picture", lambda: receiver.of("frame"))[0]
    sender.wait("the end", lambda: not sender.running(), 20)
    seconds = time.time() - began
    assert sender.popen.returncode == 0, sender.tail()
    assert 9.5 <= seconds <= 12.5, f"300 buffers at 30 a second took {seconds:.1f} s"
    old.wait_for("signaling", type="bye")
    bed.wait_members("living_room", {"watcher", "old"})
    got, possible = len(receiver.of("frame")), RATE * (began + 10 - first["t"])
    assert got >= 0.9 * possible, f"{got} pictures where {possible:.0f} were possible"


def test_the_stream_continues_after_a_pause(bed: Bed):
    sender, receiver = bed.sender("living_room"), bed.receiver("living_room")
    before = frames.latency(frames.watch(receiver, 1.5))
    sender.ask("state", value="PAUSED")
    time.sleep(2)
    paused = time.time()
    time.sleep(0.5)
    assert len(frames.frames(receiver, since=paused)) <= 1, "a paused sender sends nothing"
    sender.ask("state", value="PLAYING")
    frames.wait_first(receiver, since=paused)
    time.sleep(0.5)
    after = frames.watch(receiver, 2)
    frames.check_flow(after, 2)
    print(before, frames.latency(after))
    assert frames.latency(after)["p50"] <= before["p50"] + 40, "the pause must not add to the delay"


def test_the_stream_continues_after_a_flushing_seek(bed: Bed, recording: pathlib.Path):
    sender = bed.pipeline("player", f"filesrc location={recording} ! matroskademux ! h264parse ! {bed.sink('living_room')}")
    bed.wait_state(sender)
    receiver = bed.receiver("living_room")
    receiver.wait("the middle of the file", lambda: max(frames.counters(frames.frames(receiver)), default=0) > 90)
    sought = time.time()
    assert sender.ask("seek", to=0)

    def beginning_again():
        return [f for f in frames.frames(receiver, since=sought) if f.get("counter", 999) < 30]

    began = receiver.wait("the restart from the beginning", beginning_again, 5)[0]["t"]
    receiver.wait("two seconds", lambda: time.time() >= began + 2)
    after = [f for f in frames.frames(receiver, since=began) if f["t"] < began + 2]
    frames.check_flow(after, 2)
    assert len(after) <= 2 * RATE * 1.15, "the clock must pace the stream, without a burst"


def test_receivers_follow_a_change_of_size(bed: Bed):
    sender = bed.pipeline("scaler", f"{picture()} ! videoscale ! capsfilter name=size caps=video/x-raw,width=320,height=240 "
                                    f"! {X264} ! {bed.sink('living_room')}")
    bed.wait_state(sender)
    receiver, browser = bed.receiver("living_room"), bed.browser("living_room")
    for watcher in (receiver, browser):
        assert frames.wait_first(watcher)["width"] == 320
    for width, height in ((640, 480), (160, 120), (320, 240)):
        changed = time.time()
        sender.ask("set", element="size", property="caps", value=f"video/x-raw,width={width},height={height}")
        for watcher in (receiver, browser):
            watcher.wait(f"a picture of {width}x{height}", lambda w=watcher: [
                f for f in frames.frames(w, since=changed) if (f["width"], f["height"]) == (width, height) and "counter" in f], 10)
    frames.check_flow(frames.watch(receiver, 2), 2)
    assert len([e for e in receiver.of("pad")]) == 1, "there must be no new session"


def test_a_second_pad_is_a_second_stream(bed: Bed):
    sender, receiver = bed.sender("living_room"), bed.receiver("living_room")
    frames.wait_first(receiver)
    added = sender.ask("add", element="room", description=f"{picture(name='picture2')} ! {X264.replace('name=encoder', 'name=encoder2')}")
    assert added["link"] == "ok"
    for pad in ("video_0", "video_1"):
        receiver.wait(f"pictures on {pad}", lambda p=pad: frames.frames(receiver, pad=p, since=time.time() - 0.5), 10)
    browser = bed.browser("living_room")
    browser.wait("two videos", lambda: len({f["pad"] for f in frames.frames(browser, since=time.time() - 1)}) == 2, 15)
    began = time.time()
    time.sleep(2)
    for pad in ("video_0", "video_1"):
        frames.check_flow([f for f in frames.frames(receiver, pad=pad, since=began) if f["t"] < began + 2], 2)


def test_a_receiver_waits_for_the_sender_to_play(bed: Bed):
    sender = bed.pipeline("sleeper", f"{picture()} ! {X264} ! {bed.sink('living_room')}", "--start=PAUSED")
    bed.wait_state(sender)
    receiver, browser = bed.receiver("living_room"), bed.browser("living_room")
    wait_until("both in the room", lambda: len(bed.members("living_room")) == 3)
    sender.ask("state", value="PLAYING")
    for watcher in (receiver, browser):
        frames.wait_first(watcher, 5)
    frames.check_flow(frames.watch(receiver, 2), 2)


def test_ctrl_c_removes_a_sender_from_its_room(bed: Bed):
    sender = bed.gst_launch("launch", f"videotestsrc is-live=true ! x264enc ! {bed.sink('living_room')}")
    watcher = bed.gst_launch(
        "watch", f"roomwebrtcsrc room=living_room client-id=watcher signaling-uri={bed.uri} ! fakesink", receiving=True)
    bed.wait_members("living_room", {"camera", "watcher"})
    for process in (sender, watcher):
        process.send_signal(signal.SIGINT)
    for process in (sender, watcher):
        process.popen.wait(5)
    assert bed.members("living_room") == {}
