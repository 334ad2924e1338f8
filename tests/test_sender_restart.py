"""Peers that are killed: receivers follow a sender that restarts, and a sender forgets a receiver that is gone."""

import time

from bed import frames
from bed.bed import Bed
from bed.process import wait_until


def test_a_killed_sender_comes_back(bed: Bed):
    first = bed.sender("living_room", source=1)
    receiver, browser = bed.receiver("living_room"), bed.browser("living_room")
    for watcher in (receiver, browser):
        frames.wait_first(watcher, source=1)
    bed.kill(first)
    time.sleep(2)

    began = time.time()
    bed.sender("living_room", source=2)
    for watcher in (receiver, browser):
        picture = frames.wait_first(watcher, since=began, source=2)
        waited = picture["t"] - began
        print(f"{watcher.name}: a picture {waited:.2f} s after the sender's start")
        assert waited <= 3, watcher.name
    assert len([e for e in receiver.of("pad") if not e["removed"]]) == 1, "the new sender must continue on the same pad"
    frames.check_flow(frames.watch(receiver, 2), 2, source=2)


def test_a_sender_that_said_goodbye_comes_back(bed: Bed):
    first = bed.sender("living_room", source=1)
    receiver, browser = bed.receiver("living_room"), bed.browser("living_room")
    for watcher in (receiver, browser):
        frames.wait_first(watcher, source=1)
    first.stop()
    began = time.time()
    bed.sender("living_room", source=2)
    for watcher in (receiver, browser):
        assert frames.wait_first(watcher, since=began, source=2)["t"] - began <= 3, watcher.name


def test_a_killed_receiver_is_forgotten(bed: Bed):
    sender = bed.sender("living_room")
    doomed, other = bed.receiver("living_room", "doomed"), bed.receiver("living_room", "other")
    for watcher in (doomed, other):
        frames.wait_first(watcher)
    assert bed.receivers_of(sender) == {"doomed", "other"}
    began = time.time()
    bed.kill(doomed)
    wait_until("only the other receiver", lambda: bed.receivers_of(sender) == {"other"}, 20)
    seconds = time.time() - began
    print(f"forgotten after {seconds:.1f} s")
    frames.check_flow([f for f in frames.frames(other, since=began) if f["t"] < began + seconds], seconds)
    assert not sender.of("bus", kind="error")


def test_a_receiver_that_never_answers_does_not_disturb_others(bed: Bed):
    sender = bed.sender("living_room")
    other = bed.receiver("living_room", "other")
    frames.wait_first(other)
    began = time.time()
    mute = bed.old_client("living_room", "mute", "--never-answer")
    mute.wait_for("signaling", type="offer")
    newcomer = bed.receiver("living_room", "newcomer")
    frames.wait_first(newcomer)
    time.sleep(2)
    seconds = time.time() - began
    frames.check_flow([f for f in frames.frames(other, since=began) if f["t"] < began + seconds], seconds)
    frames.check_flow(frames.watch(newcomer, 1), 1)
    assert not sender.of("bus", kind="error")
    mute.stop()
    wait_until("it is forgotten", lambda: "mute" not in bed.receivers_of(sender), 20)
