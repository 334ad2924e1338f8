"""What the benchmarks share: the bed of the tests, a plain webrtcbin pair in it, percentiles, one JSON line out."""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from bed.bed import RELEASE, SYSTEM_PYTHON, Bed, Programs  # noqa: E402
from bed.network import Network  # noqa: E402
from bed.process import Process  # noqa: E402

PLAIN = pathlib.Path(__file__).with_name("plain.py")


@contextlib.contextmanager
def bed():
    """A network with the server in it."""
    require("room-signaling", "libgstroomwebrtc.so")
    with tempfile.TemporaryDirectory() as logs, Network() as network:
        made = Bed(network, pathlib.Path(logs), pathlib.Path(logs) / "registry.bin")
        fill_registry(made)
        try:
            made.start_server()
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def programs(*needed: str):
    """Programs without a network, which these files of the release build are needed for."""
    require(*needed)
    with tempfile.TemporaryDirectory() as logs:
        made = Programs(pathlib.Path(logs), pathlib.Path(logs) / "registry.bin")
        fill_registry(made)
        try:
            yield made
        finally:
            made.close()


def require(*needed: str) -> None:
    for name in needed:
        if not (RELEASE / name).exists():
            sys.exit(f"{RELEASE / name} is missing: run cargo build --release first")


def fill_registry(made: Programs) -> None:
    """So that no measured process has to."""
    made.env["GST_DEBUG"] = "1"
    subprocess.run(["gst-inspect-1.0", "fakesink"], check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", **made.env})


def plain(made: Bed, *options: str, receiving: bool = False) -> Process:
    """A plain peer (plain.py says what it does)."""
    namespace = made.network.receivers if receiving else made.network.senders
    process = made.start("plain", [SYSTEM_PYTHON, str(PLAIN), *options], namespace)
    process.wait_for("ready")
    return process


class Introducer:
    """Carries descriptions and candidates between a plain sender and its receivers: the signaling of a plain pair."""

    def __init__(self, sender: Process, receivers: Process):
        self.ends = {sender: receivers, receivers: sender}
        self.seen = {sender: 0, receivers: 0}
        self.sender, self.receivers = sender, receivers
        self.taken: set[str] = set()

    def carry(self) -> None:
        """Passes on what was said since the last time."""
        for end, other in self.ends.items():
            events = end.events[self.seen[end]:]
            self.seen[end] += len(events)
            for event in events:
                if event["event"] == "sdp":
                    other.ask("take" if event["kind"] == "offer" else "answer", peer=event["peer"], sdp=event["sdp"])
                elif event["event"] == "candidate":
                    other.ask("candidate", peer=event["peer"], line=event["line"], text=event["text"])

    def connect(self, peer: str, arrived, timeout: float = 20) -> None:
        """Brings a receiver to the sender and returns when `arrived()` is true."""
        self.sender.ask("offer", peer=peer)
        deadline = time.monotonic() + timeout
        while not arrived():
            self.carry()
            if time.monotonic() > deadline:
                raise TimeoutError(f"plain receiver {peer} got nothing in {timeout} s")
            time.sleep(0.001)

    def drop(self, peer: str) -> None:
        """Ends both ends of a receiver."""
        self.receivers.ask("drop", peer=peer)
        self.sender.ask("drop", peer=peer)


def percentiles(values: list[float]) -> dict[str, float]:
    """Median and 99th percentile, of how many."""
    ordered = sorted(values)
    return {"p50": round(statistics.median(ordered), 1), "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
            "count": len(ordered)}


def arguments(description: str, **defaults: float) -> argparse.Namespace:
    """Command line options that are all numbers."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"default {value}")
    return parser.parse_args()


def report(passed: bool, **figures: object) -> None:
    """Prints the one line and ends with 1 where the goal was missed."""
    print(json.dumps({**figures, "passed": passed}))
    sys.exit(0 if passed else 1)
