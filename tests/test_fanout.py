"""One sender and many receivers: one encoder, a picture for each late joiner, few forced keyframes."""

import time

from bed import frames
from bed.bed import Bed
from bed.process import wait_until


def test_receivers_that_stay_lose_nothing_when_others_join_and_leave(bed: Bed):
    """Receivers of three kinds, in mixed order; some leave and some are killed."""
    sender = bed.sender("living_room")
    first = bed.receiver("living_room", "first")
    frames.wait_first(first)
    began = time.time()

    guests = [bed.browser("living_room"), bed.receiver("living_room", "r2"), bed.old_client("living_room", "old3")]
    for guest in guests:
        frames.wait_first(guest)
    guests[1].stop()
    late = [bed.receiver("living_room", f"r{n}") for n in (4, 5)] + [bed.old_client("living_room", "old6"), bed.receiver("living_room", "r7")]
    for guest in late:
        frames.wait_first(guest)
    bed.kill(late[2])
    bed.kill(late[0])
    last = bed.receiver("living_room", "r8")
    frames.wait_first(last)

    seconds = time.time() - began
    frames.check_flow([f for f in frames.frames(first, since=began) if f["t"] < began + seconds], seconds)
    for guest in (guests[0], guests[2], late[1], late[3], last):
        frames.check_flow(frames.watch(guest, 2), 2)
    counts = sender.ask("counts")["encoder"]
    sent = sender.ask("get", element="room", property="stats")
    drawn = max(frames.counters(frames.frames(first))) + 1
    assert drawn <= counts["frames"] <= drawn + 15, "the encoder must run once for all receivers"
    # The statistics are refreshed twice a second.
    assert abs(sent["frames"] - counts["frames"]) <= frames.RATE, "each frame must be counted once for all receivers"


def test_eight_receivers_receive_at_the_same_time(bed: Bed):
    """All eight receive together."""
    bed.sender("living_room")
    watchers = [bed.browser("living_room"), bed.old_client("living_room", "old1"), bed.old_client("living_room", "old2")]
    watchers += [bed.receiver("living_room", f"r{n}") for n in range(5)]
    for watcher in watchers:
        frames.wait_first(watcher)
    began = time.time()
    time.sleep(4)
    for watcher in watchers:
        frames.check_flow([f for f in frames.frames(watcher, since=began) if f["t"] < began + 4], 4)


def test_twenty_joins_in_a_second_force_at_most_three_keyframes(bed: Bed):
    sender = bed.sender("living_room")
    crowd = bed.pipeline(
        "crowd", " ".join(f"roomwebrtcsrc name=room{n} room=living_room client-id=c{n} signaling-uri={bed.uri}" for n in range(20)),
        "--each-pad=appsink name=stream sync=false async=false", "--start=", receiving=True)
    before = sender.ask("counts")["encoder"]
    crowd.ask("state", value="PLAYING")

    def pictures():
        return {e["pad"] for e in crowd.of("unit")}

    crowd.wait("a picture for each of the twenty", lambda: len(pictures()) == 20, 30)
    firsts = {pad: next(e for e in crowd.of("unit") if e["pad"] == pad) for pad in pictures()}
    assert all(unit["key"] for unit in firsts.values()), "each receiver must start at a keyframe"
    after = sender.ask("counts")["encoder"]
    assert after["keyframes"] - before["keyframes"] <= 3
    wait_until("twenty receivers in the list", lambda: len(bed.receivers_of(sender)) == 20)
