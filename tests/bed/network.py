"""Two network namespaces joined by a veth pair: senders and the server in one, receivers in the other.

Names carry the process id of the run, so that runs don't meet and a later one clears away what a killed one left.
"""

import os
import pathlib
import subprocess

from .process import wait_until

SENDERS, RECEIVERS = "10.77.0.1", "10.77.0.2"
_PREFIX = "rt"
# libnice leaves out interfaces whose names begin with veth, docker or virbr.
_LINK = "net0"


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def _alive(pid: int) -> bool:
    return pathlib.Path(f"/proc/{pid}").exists()


def clear_leftovers() -> None:
    """Deletes the namespaces of runs whose process is gone."""
    for path in pathlib.Path("/run/netns").glob(f"{_PREFIX}-*-*"):
        if not _alive(int(path.name.split("-")[1])):
            _ip("netns", "del", path.name)


class Network:
    """Use as a context: there inside it, gone after it."""

    _made = 0

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise PermissionError("network namespaces need root: run scripts/test.sh, or pytest through sudo")
        Network._made += 1
        # The number tells networks of one run apart.
        self.senders, self.receivers = (f"{_PREFIX}-{os.getpid()}-{Network._made}{side}" for side in "ab")

    def __enter__(self) -> "Network":
        clear_leftovers()
        for name in (self.senders, self.receivers):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("link", "add", _LINK, "netns", self.senders, "type", "veth",
            "peer", "name", _LINK, "netns", self.receivers)
        for name, own, other in ((self.senders, SENDERS, RECEIVERS), (self.receivers, RECEIVERS, SENDERS)):
            _ip("-n", name, "addr", "add", f"{own}/24", "dev", _LINK)
            _ip("-n", name, "link", "set", _LINK, "up")
            # Chromium gathers no candidates without a default route.
            _ip("-n", name, "route", "add", "default", "via", other)
        # The kernel says so up to a second later; until then libnice believes that the interface is not there.
        for name in (self.senders, self.receivers):
            wait_until(f"carrier in {name}", lambda n=name: "state UP" in _ip("-n", n, "link", "show", _LINK), 5)
        return self

    def __exit__(self, *_error: object) -> None:
        for name in (self.senders, self.receivers):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    @staticmethod
    def within(namespace: str, command: list[str]) -> list[str]:
        """The command that runs `command` in a namespace."""
        return ["ip", "netns", "exec", namespace, *command]
