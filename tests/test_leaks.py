"""Sixty receivers come and go, and neither end leaks resources."""

import time

from bed.bed import Bed
from bed.process import Process, wait_until

CYCLES, WARM = 60, 10
# In bytes; a leaked session would be more than a megabyte.
GROWTH = (CYCLES - WARM) * 35_000


def settled(bed: Bed, process: Process, sender: Process) -> dict[str, int]:
    """The resources that a process holds after the sessions of the last receiver have been torn down."""
    wait_until("no receivers", lambda: not bed.receivers_of(sender))
    held = [process.ask("usage")]

    def same_again():
        held.append(process.ask("usage"))
        return all(held[-1][what] == held[-2][what] == held[-3][what] for what in ("threads", "descriptors")) if len(held) > 2 else False

    wait_until("threads and descriptors that keep still", same_again, 15)
    return held[-1]


def test_sixty_joins_and_leaves_leak_nothing(bed: Bed):
    sender = bed.sender("living_room")
    receiver = bed.pipeline(
        "watcher", f"roomwebrtcsrc name=room room=living_room signaling-uri={bed.uri}",
        "--each-pad=appsink name=stream sync=false async=false", "--start=", receiving=True)
    before = {}
    for cycle in range(1, CYCLES + 1):
        seen = len(receiver.of("unit"))
        receiver.ask("state", value="PLAYING")
        receiver.wait(f"a picture in cycle {cycle}", lambda: len(receiver.of("unit")) > seen)
        receiver.ask("state", value="NULL")
        if cycle == WARM:
            before = {p: settled(bed, p, sender) for p in (sender, receiver)}
    for process, was in before.items():
        now = settled(bed, process, sender)
        print(f"{process.name}: after {WARM} {was}, after {CYCLES} {now}")
        assert now["threads"] <= was["threads"], process.name
        assert now["descriptors"] <= was["descriptors"], process.name
        assert now["resident"] - was["resident"] <= GROWTH, process.name


def test_receivers_that_leave_while_joining_leak_nothing(bed: Bed):
    """Sessions are torn down at different moments of the negotiation."""
    sender = bed.sender("living_room")
    receiver = bed.pipeline(
        "watcher", f"roomwebrtcsrc name=room room=living_room signaling-uri={bed.uri}",
        "--each-pad=fakesink async=false", "--start=", receiving=True)
    for cycle in range(40):
        receiver.ask("state", value="PLAYING")
        time.sleep(cycle * 0.01)  # A different moment in each cycle.
        receiver.ask("state", value="NULL")
        if cycle == 9:
            before = settled(bed, sender, sender)
    now = settled(bed, sender, sender)
    print(before, now)
    # GLib's thread pools vary by one or two threads; thirty leaked sessions would be more than a hundred.
    assert now["threads"] <= before["threads"] + 4 and now["descriptors"] <= before["descriptors"] + 4
    assert not sender.of("bus", kind="error")
