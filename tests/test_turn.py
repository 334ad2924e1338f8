"""Media that can only pass through a TURN server: with the credentials from `joined`, and with wrong ones."""

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
# The minimum of video bytes in that time.
MUCH = 100_000


@pytest.fixture
def bed(registry: pathlib.Path, tmp_path: pathlib.Path):
    """Two networks that reach the server, but not each other."""
    with network.Apart() as apart:
        bed = Bed(apart, tmp_path, registry)
        try:
            yield bed
        finally:
            bed.close()


def start_servers(bed: Bed, secret: str = SECRET) -> Process:
    """Starts coturn with `SECRET`, and the signaling server, which makes credentials with `secret`. Returns coturn."""
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
    """The first group of each match in the log of coturn."""
    found = (re.search(pattern, str(event.get("text"))) for event in coturn.of("text"))
    return {match[1] for match in found if match}


def allocations(coturn: Process) -> set[str]:
    """The users to which coturn gave an allocation."""
    return said(coturn, r"user <([^>]+)>: incoming packet ALLOCATE processed, success")


def check_relayed(bed: Bed, coturn: Process, receiver: Process) -> None:
    """Checks that video arrives through the relay, with credentials that only `joined` contains."""
    frames.wait_first(receiver)
    before = bed.network.arrived(bed.network.receivers)
    frames.check_flow(frames.watch(receiver, SECONDS), SECONDS)
    # The two networks are not connected, so coturn sent these packets. They are far more than ICE checks.
    assert bed.network.arrived(bed.network.receivers) - before > MUCH
    names = allocations(coturn)
    assert len(names) == 2, names
    for name in names:
        expiry, _, random = name.partition(":")
        assert 3000 < int(expiry) - time.time() <= 3600, name
        assert re.fullmatch("[0-9a-f]{16}", random), name
    # Each peer has requested a permission for the relayed address of the other.
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

    # Without a release, an allocation lasts ten minutes.
    coturn.wait("the end of all allocations", ended, 10)
    assert sender.running()


def test_credentials_of_another_secret_are_refused(bed: Bed):
    coturn = start_servers(bed, secret="another secret than that of coturn")
    bed.sender("living_room")
    receiver = bed.receiver("living_room")
    receiver.wait("a failed connection", lambda: "ending the session with camera" in receiver.log.read_text(errors="replace"), 60)
    refused = said(coturn, r"Cannot find credentials of user <([^>]+)>")
    assert len(refused) >= 2, "both ends asked coturn"
    assert not allocations(coturn)
    assert not frames.frames(receiver)
