"""Network namespaces that tests run in: joined by a veth pair, senders and the server in one, receivers in the other
(Network); or apart, each with a way to the server only (Apart); or a single one (Lone).

Names carry the process id of the run, so that runs don't meet and a later one clears away what a killed one left.
"""

import collections.abc
import contextlib
import ctypes
import json
import os
import pathlib
import subprocess
from typing import Self

from .process import wait_until

SENDERS, RECEIVERS = "10.77.0.1", "10.77.0.2"
# The address of receivers after a change.
RENUMBERED = "10.77.0.22"
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


def is_bound(pid: int, protocol: str, port: int) -> bool:
    """Whether somebody in the namespace of a process listens on a port of `tcp`, or has one of `udp`."""
    # Local address, remote address, state: 0A is LISTEN, 07 is that of a UDP socket without a peer.
    rows = [line.split() for line in pathlib.Path(f"/proc/{pid}/net/{protocol}").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] in ("0A", "07") for row in rows)


class Network:
    """Use as a context: there inside it, gone after it."""

    # Where the server is to listen.
    address = SENDERS
    _made = 0

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise PermissionError("network namespaces need root: run scripts/test.sh, or pytest through sudo")
        Network._made += 1
        # The number tells networks of one run apart.
        self.senders, self.receivers = (self._name(side) for side in "ab")
        # The namespace that the server is in.
        self.server = self.senders
        self._all = [self.senders, self.receivers]

    @staticmethod
    def _name(side: str) -> str:
        return f"{_PREFIX}-{os.getpid()}-{Network._made}{side}"

    def __enter__(self) -> Self:
        clear_leftovers()
        for name in self._all:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        self._connect()
        # The kernel says so up to a second later; until then libnice believes that the interface is not there.
        for name in (self.senders, self.receivers):
            wait_until(f"carrier in {name}", lambda n=name: "state UP" in _ip("-n", n, "link", "show", _LINK), 5)
        return self

    def __exit__(self, *_error: object) -> None:
        for name in self._all:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def _connect(self) -> None:
        self._join((self.senders, _LINK, SENDERS), (self.receivers, _LINK, RECEIVERS))
        self._default_route(self.senders, RECEIVERS)
        self._default_route(self.receivers, SENDERS)

    @staticmethod
    def _join(*ends: tuple[str, str, str]) -> None:
        """A link between two namespaces; each end has its namespace, a name there and an address."""
        (one, one_link, _), (other, other_link, _) = ends
        _ip("link", "add", one_link, "netns", one, "type", "veth", "peer", "name", other_link, "netns", other)
        for name, link, address in ends:
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            _ip("-n", name, "link", "set", link, "up")

    @staticmethod
    def _default_route(name: str, gateway: str) -> None:
        """Chromium gathers no candidates without one."""
        _ip("-n", name, "route", "add", "default", "via", gateway)

    @contextlib.contextmanager
    def narrowed(self, rate: str, queue: str = "200ms") -> collections.abc.Iterator[None]:
        """What senders send to the other side gets no more than `rate` meanwhile, such as 1mbit, and waits for at most `queue`."""
        command = ["tc", "-n", self.senders, "qdisc"]
        subprocess.run([*command, "add", "dev", _LINK, "root", "tbf", "rate", rate, "burst", "16kb", "latency", queue], check=True)
        try:
            yield
        finally:
            subprocess.run([*command, "del", "dev", _LINK, "root"], check=True)

    @contextlib.contextmanager
    def renumbered(self) -> collections.abc.Iterator[None]:
        """The side of the receivers has another address meanwhile, as after a change of Wi-Fi."""
        self._renumber(RECEIVERS, RENUMBERED)
        try:
            yield
        finally:
            self._renumber(RENUMBERED, RECEIVERS)

    def _renumber(self, old: str, new: str) -> None:
        _ip("-n", self.receivers, "addr", "del", f"{old}/24", "dev", _LINK)
        _ip("-n", self.receivers, "addr", "add", f"{new}/24", "dev", _LINK)
        _ip("-n", self.receivers, "route", "replace", "default", "via", SENDERS)

    @staticmethod
    def within(namespace: str, command: list[str]) -> list[str]:
        """The command that runs `command` in a namespace."""
        return ["ip", "netns", "exec", namespace, *command]


class Apart(Network):
    """Senders and receivers each behind a link of their own to a third namespace, in which the server is, and a TURN
    server. Nothing is passed on there: the two sides reach that server and not each other, and they don't reach the
    address that it relays from. So media can only go from one allocation at the TURN server to the other."""

    address = "10.77.0.1"
    # The address that a TURN server is to relay from.
    relay_address = "10.77.0.9"

    def __init__(self) -> None:
        super().__init__()
        self.server = self._name("c")
        self._all.append(self.server)

    def _connect(self) -> None:
        # A machine that routes hands that on to its namespaces.
        subprocess.run(self.within(self.server, ["sysctl", "-q", "-w", "net.ipv4.ip_forward=0"]), check=True)
        for address in (self.address, self.relay_address):
            _ip("-n", self.server, "addr", "add", f"{address}/32", "dev", "lo")
        for number, name in enumerate((self.senders, self.receivers), 1):
            self._join((name, _LINK, f"10.77.{number}.2"), (self.server, f"side{number}", f"10.77.{number}.1"))
            self._default_route(name, f"10.77.{number}.1")
            # Not a blackhole: there, sending fails with EINVAL, at which Chromium closes the socket with all its candidates.
            _ip("-n", name, "route", "add", "unreachable", f"{self.relay_address}/32")

    def arrived(self, name: str) -> int:
        """How many bytes have come into a side so far."""
        link, = json.loads(_ip("-n", name, "-s", "-j", "link", "show", _LINK))
        return link["stats64"]["rx"]["bytes"]


class Lone(Network):
    """One namespace that nothing leads out of, with addresses of its own beside loopback."""

    def __init__(self, addresses: list[str]) -> None:
        super().__init__()
        self.name = self.server = self.senders
        self._all, self._addresses = [self.name], addresses

    def __enter__(self) -> Self:
        clear_leftovers()
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "add", _LINK, "type", "veth", "peer", "name", "other")
        for address in self._addresses:
            # Without nodad, an IPv6 address can't be used for a second.
            _ip("-n", self.name, "addr", "add", address, "dev", _LINK, *(["nodad"] if ":" in address else []))
        for link in (_LINK, "other"):
            _ip("-n", self.name, "link", "set", link, "up")
        return self

    @contextlib.contextmanager
    def inside(self) -> collections.abc.Iterator[None]:
        """Sockets that this thread makes meanwhile are in the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _enter(there)
            yield
        finally:
            _enter(home)
            os.close(there)
            os.close(home)


def _enter(namespace: int) -> None:
    clone_newnet = 0x40000000
    if ctypes.CDLL(None, use_errno=True).setns(namespace, clone_newnet) != 0:
        raise OSError(ctypes.get_errno(), "setns")
