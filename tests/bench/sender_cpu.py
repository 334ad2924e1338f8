#!/usr/bin/python3
"""What a sender's process costs with 1, 8 and 16 receivers, beside plain webrtcbins behind a tee.

1280x720, 30 frames/s, 2 Mbit/s, encoded once. Goal: at most 1.2 % of a core for each further receiver; where a plain
webrtcbin needs more than 0.75 %, the machine is slower than the one for which that was set.
Needs root (network namespaces) and a release build.
"""

import time

import rig

ROOM = "bench"
SOURCE = ("videotestsrc is-live=true pattern=zone-plate kx2=20 ky2=20 kt=3 ! "
          "video/x-raw,format=I420,width=1280,height=720,framerate=30/1 ! "
          "x264enc name=encoder tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max=3000")
DECODE = "fakesink name=first sync=false async=false"
STEPS = (1, 8, 16)
GOAL = 1.2


def share(sender, seconds: float) -> float:
    """The CPU of a process, in percent of a core."""
    before, began = sender.ask("usage")["cpu_s"], time.monotonic()
    time.sleep(seconds)
    return 100 * (sender.ask("usage")["cpu_s"] - before) / (time.monotonic() - began)


def further(shares: dict[int, float]) -> float:
    """Percent of a core for each receiver after the first."""
    return round((shares[STEPS[-1]] - shares[STEPS[0]]) / (STEPS[-1] - STEPS[0]), 2)


def ours(bed, seconds: float) -> dict[int, float]:
    sender = bed.pipeline("camera", f"{SOURCE} ! {bed.sink(ROOM)}")
    bed.wait_state(sender)
    receiver = rig.plain(bed, "--join", f"roomwebrtcsrc room={ROOM} signaling-uri={bed.uri} ! {DECODE}", receiving=True)
    shares = {}
    for step in STEPS:
        for number in range(len(receiver.of("first")), step):
            receiver.ask("join", peer=str(number))
            receiver.wait_for("first", peer=str(number))
        time.sleep(2)
        shares[step] = share(sender, seconds)
    receiver.stop()
    sender.stop()
    return shares


def plain(bed, seconds: float) -> dict[int, float]:
    sender = rig.plain(bed, "--send", SOURCE)
    receivers = rig.plain(bed, "--decode", DECODE, receiving=True)
    introducer = rig.Introducer(sender, receivers)
    shares = {}
    for step in STEPS:
        for number in range(len(introducer.receivers.of("first")), step):
            introducer.connect(str(number), lambda n=str(number): receivers.of("first", peer=n))
        time.sleep(2)
        shares[step] = share(sender, seconds)
    sender.stop()
    receivers.stop()
    return shares


def main() -> None:
    options = rig.arguments(__doc__.splitlines()[0], seconds=8.0)
    with rig.bed() as bed:
        mine, others = ours(bed, options.seconds), plain(bed, options.seconds)
    rounded = [{step: round(value, 1) for step, value in shares.items()} for shares in (mine, others)]
    rig.report(further(mine) <= GOAL, benchmark="sender_cpu", room_percent=rounded[0], plain_percent=rounded[1],
               room_each_further=further(mine), plain_each_further=further(others), goal_each_further=GOAL)


if __name__ == "__main__":
    main()
