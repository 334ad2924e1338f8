"""The signaling server is killed and restarts: video continues, all clients are in the room again, and others can join."""

import time

from bed import frames
from bed.bed import Bed
from bed.process import wait_until


def test_video_survives_a_killed_server(bed: Bed):
    sender = bed.sender("living_room")
    receiver = bed.receiver("living_room")
    browser = bed.browser("living_room")
    for watcher in (receiver, browser):
        frames.wait_first(watcher)
    began = time.time()

    bed.kill(bed.server)
    bed.wait_state(sender, "reconnecting")
    assert not sender.of("bus", kind="error"), "losing the server is a state, not an error"
    time.sleep(max(0.0, began + 5 - time.time()))
    bed.start_server()

    def everyone():
        roles = sorted(peer["role"] for peer in bed.members("living_room").values())
        return roles == ["receiver", "receiver", "sender"]

    wait_until("the sender and both receivers in the room", everyone, 20)
    newcomer = bed.receiver("living_room", "newcomer")
    frames.wait_first(newcomer)
    time.sleep(1)
    ended = time.time() - 0.3

    numbers = sorted(frames.counters([f for f in frames.frames(receiver, since=began) if f["t"] < ended]))
    missing = set(range(numbers[0], numbers[-1] + 1)) - set(numbers)
    assert not missing, "no picture must be lost while the server is away"
    seconds = ended - began
    frames.check_flow([f for f in frames.frames(receiver, since=began) if f["t"] < ended], seconds)
    frames.check_flow([f for f in frames.frames(browser, since=began) if f["t"] < ended], seconds)
    pads = {e["name"] for e in receiver.of("pad")}
    assert pads == {"video_0"}, "the stream must continue on its pad, without a new session"


def test_a_sender_waits_for_its_server(empty_bed: Bed):
    sender = empty_bed.pipeline("early", f"videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! x264enc ! {empty_bed.sink('living_room')}")
    sender.wait_for("state", new="playing")
    time.sleep(1)
    assert not sender.of("bus", kind="error")
    empty_bed.start_server()
    empty_bed.wait_state(sender, timeout=15)
    receiver = empty_bed.receiver("living_room")
    receiver.wait("a picture", lambda: receiver.of("frame"))
