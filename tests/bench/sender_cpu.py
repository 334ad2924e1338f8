#!/usr/bin/python3
"""What a sender's process costs with 1, 8 and 16 receivers, beside plain webrtcbins behind a tee.

1280x720, 30 frames/s, 2 Mbit/s, encoded once, in threads of its own. What these take is printed but not counted: it
swings by more from minute to minute than sixteen receivers cost. Rounds of one and the other alternate; medians count.
Goal: at most 1.2 % of a core for each further receiver; where a plain webrtcbin needs more than 0.75 %, the machine is
slower than the one for which that was set.
Needs root (network namespaces) and a release build.
"""

import pathlib
import statistics
import time

import rig

ROOM = "bench"
SOURCE = ("videotestsrc name=camera is-live=true pattern=zone-plate kx2=20 ky2=20 kt=3 ! "
          "video/x-raw,format=I420,width=1280,height=720,framerate=30/1 ! "
          "x264enc name=encoder tune=zerolatency speed-preset=ultrafast bitrate=2000 key-int-max=30 ! queue")
# The kernel's name of the source's thread, in which the encoder runs, and of those that the encoder starts from it.
ENCODING = "camera:src"
DECODE = "fakesink name=first sync=false async=false"
STEPS = (1, 8, 16)
GOAL = 1.2


def usage(pid: int) -> tuple[float, float]:
    """Seconds of CPU that the threads of a process have had: those that encode, and the others."""
    encoding = others = 0.0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        nanoseconds = int((task / "schedstat").read_text().split()[0])
        if (task / "comm").read_text().strip() == ENCODING:
            encoding += nanoseconds / 1e9
        else:
            others += nanoseconds / 1e9
    return encoding, others


def share(sender, seconds: float) -> tuple[float, float]:
    """The CPU of a sender, in percent of a core: what encodes, and the rest."""
    before, began = usage(sender.pid), time.monotonic()
    time.sleep(seconds)
    return tuple(100 * (now - then) / (time.monotonic() - began) for now, then in zip(usage(sender.pid), before))


def further(shares: dict[int, tuple[float, float]]) -> float:
    """Percent of a core for each receiver after the first."""
    return (shares[STEPS[-1]][1] - shares[STEPS[0]][1]) / (STEPS[-1] - STEPS[0])


def ours(bed, seconds: float) -> dict[int, tuple[float, float]]:
    sender = bed.pipeline("camera", f"{SOURCE} ! {bed.sink(ROOM)}")
    bed.wait_state(sender)
    receivers = rig.plain(bed, "--join", f"roomwebrtcsrc room={ROOM} signaling-uri={bed.uri} ! {DECODE}", receiving=True)
    return measure(sender, receivers, lambda peer: receivers.ask("join", peer=peer), seconds)


def plain(bed, seconds: float) -> dict[int, tuple[float, float]]:
    sender = rig.plain(bed, "--send", SOURCE)
    receivers = rig.plain(bed, "--decode", DECODE, receiving=True)
    introducer = rig.Introducer(sender, receivers)
    return measure(sender, receivers, lambda peer: introducer.connect(peer, lambda: sender.of("connected", peer=peer)), seconds)


def measure(sender, receivers, connect, seconds: float) -> dict[int, tuple[float, float]]:
    """The sender's share with each number of receivers, all of which get pictures."""
    shares, present = {}, 0
    for step in STEPS:
        peers = [str(number) for number in range(present, step)]
        present = step
        for peer in peers:
            connect(peer)
        for peer in peers:
            receivers.wait_for("first", peer=peer)
        time.sleep(2)  # what connecting cost is over
        shares[step] = share(sender, seconds)
    receivers.stop()
    sender.stop()
    return shares


def medians(rounds: list[dict], part: int) -> dict[int, float]:
    return {step: round(statistics.median(shares[step][part] for shares in rounds), 1) for step in STEPS}


def main() -> None:
    options = rig.arguments(__doc__.splitlines()[0], seconds=8.0, rounds=3)
    mine, others = [], []
    with rig.bed() as bed:
        for _ in range(options.rounds):
            mine.append(ours(bed, options.seconds))
            others.append(plain(bed, options.seconds))
    each, plain_each = ([round(further(shares), 2) for shares in rounds] for rounds in (mine, others))
    rig.report(statistics.median(each) <= GOAL, benchmark="sender_cpu",
               room_percent=medians(mine, 1), plain_percent=medians(others, 1),
               room_encoding_percent=medians(mine, 0), plain_encoding_percent=medians(others, 0),
               room_each_further=round(statistics.median(each), 2), plain_each_further=round(statistics.median(plain_each), 2),
               room_rounds=each, plain_rounds=plain_each, goal_each_further=GOAL)


if __name__ == "__main__":
    main()
