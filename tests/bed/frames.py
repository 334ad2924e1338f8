"""What the pictures that arrived say."""

import statistics
import time

from .process import Event, Failed, Process

RATE = 30
# What the issue asks of every 1:1 connection over ten seconds; a hiccup of the machine weighs more in a short time.
SHARE, SHARE_OF_A_GLANCE = 0.95, 0.85
# Of what a browser decoded, it must show at least this.
SHARE_SHOWN = 0.8


def frames(process: Process, pad: str | None = None, since: float = 0) -> list[Event]:
    """The pictures that a receiver decoded, from a moment (time.time()) on."""
    return [e for e in process.of("frame") if e["t"] >= since and (pad is None or e["pad"] == pad)]


def wait_first(process: Process, timeout: float = 15, since: float = 0, source: int | None = None) -> Event:
    """Waits for the first picture that can be read."""
    return process.wait("a picture that can be read", lambda: next(
        (f for f in frames(process, since=since) if "counter" in f and source in (None, f["source"])), None), timeout)


def watch(process: Process, seconds: float) -> list[Event]:
    """Lets it run and returns the pictures of that time."""
    wait_first(process)
    began = time.time()
    process.wait("its time", lambda: time.time() - began >= seconds, seconds + 5)
    return [f for f in frames(process, since=began) if f["t"] < began + seconds]


def counters(pictures: list[Event]) -> set[int]:
    """Which pictures they were."""
    return {f["counter"] for f in pictures if "counter" in f}


def check_flow(pictures: list[Event], seconds: float, source: int = 1) -> None:
    """Fails unless enough different, legible, ordered pictures of `source` came."""
    share = SHARE if seconds >= 10 else SHARE_OF_A_GLANCE
    legible = [f for f in pictures if "counter" in f]
    wrong = {f["source"] for f in legible} - {source}
    if wrong:
        raise Failed(f"pictures of {wrong} where only {source} is sent")
    seen, wanted = len(counters(legible)), share * RATE * seconds
    got = max(seen, _decoded(pictures))
    if got < wanted or seen < SHARE_SHOWN * got:
        raise Failed(f"{got} pictures ({seen} seen) in {seconds} s, wanted {wanted:.0f} ({len(pictures) - len(legible)} more were illegible)")
    if len(legible) < 0.99 * len(pictures):
        raise Failed(f"{len(pictures) - len(legible)} of {len(pictures)} pictures are damaged")
    order = [f["counter"] for f in legible]
    if order != sorted(order):
        raise Failed(f"pictures out of order: {order}")


def _decoded(pictures: list[Event]) -> int:
    """How many pictures a browser says that it decoded meanwhile: a busy machine doesn't get to show them all."""
    told = [f["decoded"] for f in pictures if "decoded" in f]
    return told[-1] - told[0] + 1 if told else 0


def latency(pictures: list[Event]) -> dict[str, float]:
    """p50, p99 and the worst, in milliseconds from drawing to decoded."""
    ages = sorted(f["latency_ms"] for f in pictures if "latency_ms" in f)
    if not ages:
        raise Failed("no legible pictures")
    return {"n": len(ages), "p50": round(statistics.median(ages), 1),
            "p99": round(ages[min(len(ages) - 1, int(len(ages) * 0.99))], 1), "max": round(ages[-1], 1)}
