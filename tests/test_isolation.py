"""Rooms are isolated from each other, and two senders in one room are two streams."""

import time

from bed import frames
from bed.bed import Bed


def test_a_receiver_receives_from_its_own_room_only(bed: Bed):
    bed.sender("kitchen", "camera", source=1)
    bed.sender("garage", "camera", source=2)
    watchers = {1: [bed.receiver("kitchen"), bed.old_client("kitchen")], 2: [bed.receiver("garage"), bed.browser("garage")]}
    for source, of_room in watchers.items():
        for watcher in of_room:
            frames.wait_first(watcher, source=source)
    time.sleep(3)
    for source, of_room in watchers.items():
        for watcher in of_room:
            seen = {f["source"] for f in frames.frames(watcher) if "source" in f}
            assert seen == {source}, watcher.name
            assert len({f["pad"] for f in frames.frames(watcher)}) == 1, watcher.name


def test_a_second_sender_is_a_second_stream(bed: Bed):
    bed.sender("living_room", "left", source=1)
    browser = bed.browser("living_room")
    frames.wait_first(browser, source=1)
    second = bed.sender("living_room", "right", source=2)
    frames.wait_first(browser, source=2)
    began = time.time()
    time.sleep(2)
    pads = {source: {f["pad"] for f in frames.frames(browser, since=began) if f.get("source") == source} for source in (1, 2)}
    assert len(pads[1]) == len(pads[2]) == 1 and pads[1] != pads[2], pads

    chosen = bed.receiver("living_room", "chooser", more="sender-id=right")
    frames.wait_first(chosen, source=2)
    assert {f["source"] for f in frames.frames(chosen)} == {2}

    second.stop()
    began = time.time()
    frames.check_flow(frames.watch(browser, 2), 2)
