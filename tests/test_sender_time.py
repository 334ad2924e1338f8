"""Senders that seek, pause, or change their clock or codec, with real receivers."""

import time

from bed import frames
from bed.bed import DECODE_ANY, DECODE_H264, RATE, VP8, X264, Bed, make_recording, picture
from bed.process import wait_until


def check_pace(process, seconds: float = 2) -> None:
    """Checks that pictures arrive at their rate, without bursts or gaps."""
    got = frames.watch(process, seconds)
    frames.check_flow(got, seconds)
    assert len(got) <= seconds * RATE * 1.15, f"{len(got)} pictures in {seconds} s"


def test_the_stream_continues_after_a_seek_in_paused(bed: Bed):
    """The stream continues immediately, regardless of how long the pipeline had played."""
    path = make_recording(bed)
    sender = bed.pipeline("player", f"filesrc location={path} ! matroskademux ! h264parse ! {bed.sink('living_room')}")
    bed.wait_state(sender)
    receiver, browser = bed.receiver("living_room"), bed.browser("living_room")
    receiver.wait("the middle of the stream", lambda: max(frames.counters(frames.frames(receiver)), default=0) > 240, 30)
    sender.ask("state", value="PAUSED")
    assert sender.ask("seek", to=0)
    played = time.time()
    sender.ask("state", value="PLAYING")
    for watcher in (receiver, browser):
        first = frames.wait_first(watcher, since=played)
        assert first["t"] - played < 3, f"{watcher.name}: {first['t'] - played:.1f} s after PLAYING"
    assert min(frames.counters(frames.frames(receiver, since=played))) < 60
    check_pace(receiver)


def test_the_stream_continues_with_another_clock_after_paused_and_ready(bed: Bed):
    """The realtime clock is decades ahead of the monotonic clock, on which the sessions run."""
    sender = bed.pipeline("sender", f"{picture()} ! {X264} ! {bed.sink('living_room')}", "--start=")
    sender.ask("clock", kind="realtime")
    sender.ask("state", value="PLAYING")
    bed.wait_state(sender)
    receiver, browser = bed.receiver("living_room"), bed.browser("living_room")
    frames.wait_first(browser)
    check_pace(receiver)
    for between, kind in (("PAUSED", "monotonic"), ("READY", "realtime"), ("NULL", "monotonic")):
        sender.ask("state", value=between)
        sender.ask("clock", kind=kind)
        changed = time.time()
        sender.ask("state", value="PLAYING")
        for watcher in (receiver, browser):
            frames.wait_first(watcher, since=changed, timeout=20)
        check_pace(receiver)
        got = frames.latency(frames.watch(browser, 2))
        print(f"after {between} on the {kind} clock: {got}")
        assert got["p50"] < 300, f"after {between} on the {kind} clock"


def test_a_pad_accepts_another_codec_after_null(bed: Bed):
    sender = bed.sender("living_room")
    receiver, browser = bed.receiver("living_room", decode=DECODE_ANY), bed.browser("living_room")
    for watcher in (receiver, browser):
        frames.wait_first(watcher)
    sender.ask("state", value="NULL")
    assert sender.ask("replace", element="encoder", description=VP8.replace("name=encoder", "name=encoder2")) == ["ok", "ok"]
    changed = time.time()
    sender.ask("state", value="PLAYING")
    for watcher in (receiver, browser):
        frames.wait_first(watcher, since=changed, timeout=20)
    check_pace(receiver)
    pads = [(event["name"], event["removed"]) for event in receiver.of("pad")]
    assert sorted(pads) == [("video_0", False), ("video_0", True), ("video_1", False)], "the first pad has ended"
    assert not sender.of("bus", kind="error") and not receiver.of("bus", kind="error")


def test_two_sinks_in_one_pipeline_survive_a_pause(bed: Bed):
    sender = bed.pipeline("sender", f"{picture()} ! {X264} ! tee name=t ! queue ! {bed.sink('living_room')} "
                                    f"t. ! queue ! {bed.sink('hall', 'other').replace('name=room', 'name=room2')}")
    bed.wait_state(sender)
    receivers = [bed.receiver("living_room", "one"), bed.receiver("hall", "two")]
    for receiver in receivers:
        check_pace(receiver)
    sender.ask("state", value="PAUSED")
    sender.ask("state", value="PLAYING")
    for receiver in receivers:
        check_pace(receiver)


def dropped(receiver) -> int:
    stats = receiver.ask("get", element="room", property="stats")
    return stats.get("video_0", {}).get("dropped", 0)


def test_a_receiver_with_three_seconds_of_latency_drops_nothing(bed: Bed):
    bed.sender("living_room")
    decode = DECODE_H264.replace("sync=false", "sync=true")
    receiver = bed.pipeline(
        "watcher", f"roomwebrtcsrc name=room room=living_room client-id=watcher signaling-uri={bed.uri}",
        f"--each-pad={decode}", "--start=", receiving=True)
    receiver.ask("set-latency", ms=3000)
    receiver.ask("state", value="PLAYING")
    frames.wait_first(receiver, timeout=20)
    before = dropped(receiver)
    check_pace(receiver, 4)
    assert dropped(receiver) == before
    age = frames.latency(frames.watch(receiver, 1))["p50"]
    assert 2500 < age < 4000, f"pictures are shown {age} ms after they were drawn"


def test_a_sink_with_a_timestamp_offset_drops_nothing(bed: Bed):
    bed.sender("living_room")
    receiver = bed.receiver("living_room", decode=DECODE_H264.replace("sync=false", "sync=true ts-offset=2000000000"))

    def loses_nothing():
        before = dropped(receiver)
        frames.watch(receiver, 3)
        return dropped(receiver) == before

    frames.wait_first(receiver)
    receiver.wait("three seconds without a loss", loses_nothing, 20)
    check_pace(receiver)


def test_a_sender_keeps_its_sessions_during_a_long_pause(bed: Bed):
    """RTCP reports prove that the peers are alive, so no session is renewed during a pause of 40 s."""
    sender = bed.sender("living_room")
    receiver, browser = bed.receiver("living_room"), bed.browser("living_room")
    for watcher in (receiver, browser):
        frames.wait_first(watcher)
    wait_until("both receivers", lambda: len(bed.receivers_of(sender)) == 2)
    added = len(sender.of("signal", name="receiver-added"))
    sender.ask("state", value="PAUSED")
    time.sleep(40)
    assert not sender.of("signal", name="receiver-removed"), "no session must end during the pause"
    played = time.time()
    sender.ask("state", value="PLAYING")
    for watcher in (receiver, browser):
        first = frames.wait_first(watcher, since=played)
        assert first["t"] - played < 2, watcher.name
    check_pace(receiver)
    assert len(sender.of("signal", name="receiver-added")) == added
