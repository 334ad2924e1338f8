#!/usr/bin/python3
"""From starting roomwebrtcsrc to the first decoded frame, with the sender running, beside a plain webrtcbin pair.

Warm joins are made one after another by one process, the cold one is the first of a fresh process.
Goal: median of the warm joins at most 250 ms. Needs root (network namespaces) and a release build.
"""

import time

import rig
from bed.bed import X264, picture

ROOM = "bench"
DECODE = "h264parse ! avdec_h264 max-threads=1 ! fakesink name=first sync=false async=false"


def first_frame(process, peer: str, began: float) -> float:
    """When the first decoded frame came, in ms."""
    return (process.wait_for("first", peer=peer)["t"] - began) * 1000


def ours(bed, joins: int, latency: int) -> list[float]:
    description = f"roomwebrtcsrc room={ROOM} signaling-uri={bed.uri} latency={latency} ! {DECODE}"
    receiver = rig.plain(bed, "--join", description, receiving=True)
    times = []
    for number in range(joins):
        began = time.time()
        receiver.ask("join", peer=str(number))
        times.append(first_frame(receiver, str(number), began))
        receiver.ask("drop", peer=str(number))
        time.sleep(0.6)  # beyond the least time between two forced keyframes
    receiver.stop()
    return times


def plain(bed, joins: int, latency: int) -> list[float]:
    sender = rig.plain(bed, "--send", f"{picture(640, 480)} ! {X264}")
    receivers = rig.plain(bed, "--decode", DECODE, "--latency", str(latency), receiving=True)
    introducer = rig.Introducer(sender, receivers)
    times = []
    for number in range(joins):
        peer, began = str(number), time.time()
        introducer.connect(peer, lambda p=peer: receivers.of("first", peer=p))
        times.append(first_frame(receivers, peer, began))
        introducer.drop(peer)
        time.sleep(0.6)
    sender.stop()
    receivers.stop()
    return times


def main() -> None:
    options = rig.arguments(__doc__.splitlines()[0], joins=20, latency=50)
    with rig.bed() as bed:
        sender = bed.sender(ROOM, size=(640, 480))
        mine = ours(bed, options.joins + 1, options.latency)
        sender.stop()
        others = plain(bed, options.joins + 1, options.latency)
    warm, plain_warm = rig.percentiles(mine[1:]), rig.percentiles(others[1:])
    rig.report(warm["p50"] <= 250, benchmark="join_time", latency_ms=options.latency, room_warm_ms=warm,
               room_cold_ms=round(mine[0]), plain_warm_ms=plain_warm, plain_cold_ms=round(others[0]), goal_warm_p50_ms=250)


if __name__ == "__main__":
    main()
