#!/usr/bin/python3
"""From drawing a picture to having it decoded, over roomwebrtcsink and roomwebrtcsrc beside a plain webrtcbin pair.

640x480, 30 frames/s, x264 zerolatency, sinks that don't sync, the same jitter buffer. The two take turns in one run.
Goal: at most the plain pair's p50 + 8 ms and p99 + 30 ms. Needs root (network namespaces) and a release build.
"""

import time

import rig
from bed.bed import DECODE_H264, X264, picture

ROOM = "bench"


def collect(process, since: float, seconds: float) -> list[float]:
    """Waits, then returns the ages of the pictures that came meanwhile, in ms."""
    time.sleep(seconds)
    return [e["latency_ms"] for e in process.of("frame") if e["t"] >= since and "latency_ms" in e]


def ours(bed, number: int, latency: int, seconds: float) -> list[float]:
    receiver = bed.receiver(ROOM, f"watcher{number}", more=f"latency={latency}")
    receiver.wait_for("frame")
    ages = collect(receiver, time.time() + 1, seconds + 1)
    receiver.stop()
    return ages


def plain(introducer, number: int, seconds: float) -> list[float]:
    peer = f"peer{number}"
    introducer.connect(peer, lambda: introducer.receivers.of("frame", pad=peer))
    ages = collect(introducer.receivers, time.time() + 1, seconds + 1)
    introducer.drop(peer)
    return ages


def main() -> None:
    options = rig.arguments(__doc__.splitlines()[0], seconds=8.0, rounds=3, latency=50)
    source = f"{picture(640, 480)} ! {X264}"
    mine, others = [], []
    with rig.bed() as bed:
        for number in range(options.rounds):
            # One sender at a time: an idle encoder of the other kind would still cost.
            sender = bed.sender(ROOM, size=(640, 480))
            mine += ours(bed, number, options.latency, options.seconds)
            sender.stop()
            sender = rig.plain(bed, "--send", source)
            receivers = rig.plain(bed, "--decode", DECODE_H264, "--latency", str(options.latency), receiving=True)
            others += plain(rig.Introducer(sender, receivers), number, options.seconds)
            sender.stop()
            receivers.stop()
    mine, others = rig.percentiles(mine), rig.percentiles(others)
    more = {name: round(mine[name] - others[name], 1) for name in ("p50", "p99")}
    rig.report(more["p50"] <= 8 and more["p99"] <= 30, benchmark="glass_to_glass", latency_ms=options.latency,
               room_ms=mine, plain_ms=others, more_ms=more, goal_more_ms={"p50": 8, "p99": 30})


if __name__ == "__main__":
    main()
