"""Where media can only go through a TURN server: with the credentials that `joined` carries, and without the right ones."""

import pathlib
import re
import time

import pytest

from bed import frames, network
from bed.bed import Bed
from bed.process import Process

TURN_PORT = 3478
SECRET = "a secret that the two servers share"
SECONDS = 3
# Bytes of video in that time.
MUCH = 100_000


@pytest.fixture
def bed(registry: pathlib.Path, tmp_path: pathlib.Path):
    """Two sides that reach the server, and nobody else."""
    with network.Apart() as apart:
        bed = Bed(apart, tmp_path, registry)
        try:
            yield bed
        finally:
            bed.close()


def start_servers(bed: Bed, secret: str = SECRET) -> Process:
    """coturn, which knows `SECRET`, and the signaling server, which makes credentials with `secret`. Returns coturn."""
    net = bed.network
    config = bed.logs / "turnserver.conf"
    config.write_text("\n".join([
        "use-auth-secret", f"static-auth-secret={SECRET}", "realm=room.test",
        f"listening-ip={net.address}", f"listening-port={TURN_PORT}", f"relay-ip={net.relay_address}",
        "no-cli", "no-tls", "no-dtls", "verbose", "log-file=stdout", "simple-log",
        f"pidfile={bed.logs / 'turnserver.pid'}", f"userdb={bed.logs / 'turnserver.db'}",
    ]) + "\n")
    coturn = bed.start("coturn", ["turnserver", "-c", str(config)], net.server)
    coturn.wait("listening", lambda: network.is_bound(coturn.pid, "udp", TURN_PORT))
    file = bed.logs / "turn-secret"
    file.touch(mode=0o600)
    file.write_text(secret)
    bed.start_server(options=("--turn", f"turn:{net.address}:{TURN_PORT}?transport=udp", "--turn-secret-file", str(file)))
    return coturn


def said(coturn: Process, pattern: str) -> set[str]:
    """What is in the first group, wherever a line of coturn's log matches."""
    found = (re.search(pattern, str(event.get("text"))) for event in coturn.of("text"))
    return {match[1] for match in found if match}


def allocations(coturn: Process) -> set[str]:
    """The names of those to whom coturn gave an address."""
    return said(coturn, r"user <([^>]+)>: incoming packet ALLOCATE processed, success")


def check_relayed(bed: Bed, coturn: Process, receiver: Process) -> None:
    """Video comes; both ends have credentials that only `joined` can have given them."""
    frames.wait_first(receiver)
    before = bed.network.arrived(bed.network.receivers)
    frames.check_flow(frames.watch(receiver, SECONDS), SECONDS)
    # Nothing is passed on between the two sides, so what came in was sent by coturn; by far more than checks of ICE are.
    assert bed.network.arrived(bed.network.receivers) - before > MUCH
    names = allocations(coturn)
    assert len(names) == 2, names
    for name in names:
        expiry, _, random = name.partition(":")
        assert 3000 < int(expiry) - time.time() <= 3600, name
        assert re.fullmatch("[0-9a-f]{16}", random), name
    # Each has asked coturn to let in what comes from the other's address there.
    relay = re.escape(bed.network.relay_address)
    assert len(said(coturn, f"session (\\d+): peer {relay} lifetime updated")) == 2


def test_roomwebrtcsrc_receives_over_the_relay(bed: Bed):
    coturn = start_servers(bed)
    bed.sender("living_room")
    check_relayed(bed, coturn, bed.receiver("living_room"))


def test_chromium_receives_over_the_relay(bed: Bed):
    coturn = start_servers(bed)
    bed.sender("living_room")
    browser = bed.browser("living_room")
    check_relayed(bed, coturn, browser)
    assert not browser.of("page-error")


def test_relay_ports_are_released_when_a_session_ends(bed: Bed):
    coturn = start_servers(bed)
    sender = bed.sender("living_room")
    receiver = bed.receiver("living_room")
    frames.wait_first(receiver)
    assert receiver.stop() == 0
    bed.wait_members("living_room", {"camera"})

    def ended() -> bool:
        made = said(coturn, r"session (\d+): new, ")
        return bool(made) and made == said(coturn, r"session (\d+): delete: ")

    # An allocation that nobody ends lasts ten minutes.
    coturn.wait("all allocations are over", ended, 10)
    assert sender.running()


def test_credentials_of_another_secret_are_refused(bed: Bed):
    coturn = start_servers(bed, secret="another secret than that of coturn")
    bed.sender("living_room")
    receiver = bed.receiver("living_room")
    receiver.wait("the connection fails", lambda: "the session with camera ends" in receiver.log.read_text(errors="replace"), 60)
    refused = said(coturn, r"Cannot find credentials of user <([^>]+)>")
    assert len(refused) >= 2, "both ends asked coturn"
    assert not allocations(coturn)
    assert not frames.frames(receiver)
