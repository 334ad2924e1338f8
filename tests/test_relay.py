"""The relay of the compose file: coturn with deploy/turnserver.conf, started by deploy/turnserver.sh. It denies internal networks,
shows no secret on its command line, and limits each member."""

import os
import pathlib
import re
import subprocess

import pytest
import yaml

from bed import network, turn
from bed.bed import PYTHON, ROOT, Programs
from bed.process import Process

SECRET = "0123456789abcdef0123456789abcdef"
COMPOSE = ROOT / "signaling" / "server" / "compose.yaml"
SCRIPT = ROOT / "deploy" / "turnserver.sh"
PORT = 3478
# The public addresses of the relay, and its address in the private network.
PUBLIC, PUBLIC_6, PRIVATE = "203.0.113.5", "2001:db8::5", "10.20.30.40"

INSIDE = [
    "0.0.0.0", "0.1.2.3", "127.0.0.1", "127.9.9.9", "169.254.169.254", "10.0.0.1", PRIVATE, "172.16.0.1", "172.17.0.1", "172.31.255.254",
    "192.168.0.1", "192.168.255.254", "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.251", "240.0.0.1", "255.255.255.255",
]
INSIDE_6 = [
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::", "2001::1", "fc00::1", "fd12:3456::1", "fe80::1",
    "fec0::1", "ff02::1",
]
OUTSIDE = ["198.51.100.7", "192.0.2.7", "172.15.255.255", "172.32.0.1", "11.0.0.1", "192.167.255.255", "192.169.0.1", PUBLIC]
OUTSIDE_6 = ["2001:db8:7::1", "2606:4700::1111"]


@pytest.fixture
def host():
    """An isolated network namespace with addresses of all kinds."""
    with network.Lone([f"{PUBLIC}/24", f"{PRIVATE}/8", f"{PUBLIC_6}/64"]) as lone:
        yield lone


def compose(variables: dict[str, str]) -> dict:
    """The compose file with its variables filled in."""
    shown = subprocess.run([PYTHON, "-m", "podman_compose", "-f", str(COMPOSE), "config"], check=True, capture_output=True, text=True,
                           env={**os.environ, "HOST": "robot.example", "TURN_SECRET": SECRET, **variables}).stdout
    return yaml.safe_load(shown)["services"]


@pytest.fixture
def relay(host: network.Lone, registry: pathlib.Path, tmp_path: pathlib.Path):
    """Starts the relay like the compose file does, with additional variables of the compose file and arguments for coturn."""
    programs = Programs(tmp_path, registry)

    def start(*arguments: str, **variables: str) -> Process:
        service = compose(variables)["turn"]
        # The image contains coturn and a shell; the compose file provides the rest.
        assert service["entrypoint"] == ["/bin/sh", "/deploy/turnserver.sh"]
        assert [volume.split(":")[1:] for volume in service["volumes"]] == [["/deploy", "ro"]]
        settings = [f"{name}={value or ''}" for name, value in service["environment"].items()]
        command = ["env", f"TMPDIR={tmp_path}", *settings, "/bin/sh", str(SCRIPT), *service.get("command", []),
                   f"--listening-ip={PUBLIC}", f"--relay-ip={PUBLIC}", f"--relay-ip={PUBLIC_6}", *arguments]
        process = programs.run("coturn", host.within(host.name, command))
        process.wait("listening", lambda: network.is_bound(process.pid, "udp", PORT))
        return process

    try:
        yield start
    finally:
        programs.close()


def client(name: str = "someone", over: int = turn.UDP) -> turn.Client:
    return turn.Client(PUBLIC, PORT, *turn.credentials(SECRET, name), over=over)


def test_the_relay_denies_internal_addresses(relay, host: network.Lone):
    relay()
    with host.inside(), client() as four, client() as six:
        assert four.allocate() == 0
        assert six.allocate(ipv6=True) == 0
        assert {peer: four.permit(peer) for peer in INSIDE} == dict.fromkeys(INSIDE, 403)
        assert {peer: six.permit(peer) for peer in INSIDE_6} == dict.fromkeys(INSIDE_6, 403)
        assert {peer: four.permit(peer) for peer in OUTSIDE} == dict.fromkeys(OUTSIDE, 0)
        assert {peer: six.permit(peer) for peer in OUTSIDE_6} == dict.fromkeys(OUTSIDE_6, 0)


def test_an_operator_can_allow_a_network(relay, host: network.Lone):
    relay(TURN_ALLOWED_PEERS="192.168.1.0-192.168.1.255 10.0.0.7")
    with host.inside(), client() as one:
        assert one.allocate() == 0
        allowed = [peer for peer in ("192.168.1.9", "10.0.0.7", "192.168.2.9", "10.0.0.8") if one.permit(peer) == 0]
        assert allowed == ["192.168.1.9", "10.0.0.7"]


def test_two_relayed_peers_reach_each_other_behind_nat(relay, host: network.Lone):
    public = "198.51.100.99"
    relay(f"--relay-ip={PRIVATE}", TURN_EXTERNAL_IP=f"{public}/{PRIVATE}")
    with host.inside(), client() as one:
        assert one.allocate() == 0
        assert one.permit(public) == 0
        assert one.permit("10.20.30.41") == 403


def test_the_relay_denies_tcp_peers(relay, host: network.Lone):
    relay()
    with host.inside(), client(over=turn.TCP) as one, client(over=turn.TCP) as other:
        assert one.allocate() == 0
        assert other.allocate(transport=turn.TCP) == 442


def test_quotas_limit_members_and_the_total(relay, host: network.Lone):
    conf = (ROOT / "deploy" / "turnserver.conf").read_text()
    of_one, of_all = (int(re.search(rf"(?m)^{name}-quota=(\d+)", conf)[1]) for name in ("user", "total"))
    lowest, highest = (int(re.search(rf"(?m)^{name}-port=(\d+)", conf)[1]) for name in ("min", "max"))
    assert of_all <= highest - lowest + 1, "as many ports as allocations"
    assert of_one * 4 <= of_all
    # The arguments override the file with quotas that are quick to reach.
    relay("--user-quota=3", "--total-quota=5")
    with host.inside():
        greedy = [client("greedy") for _ in range(4)]
        assert [one.allocate() for one in greedy] == [0, 0, 0, 486]
        modest = [client("modest") for _ in range(3)]
        assert [one.allocate() for one in modest] == [0, 0, 486]


def test_the_secret_is_on_no_command_line(relay, tmp_path: pathlib.Path):
    process = relay()
    for name in ("cmdline", "environ"):
        shown = pathlib.Path(f"/proc/{process.pid}/{name}").read_bytes()
        assert b"turnserver" in shown or name == "environ"
        assert SECRET.encode() not in shown, name
    [config] = [path for path in tmp_path.glob("tmp.*") if SECRET in path.read_text(errors="replace")]
    assert config.stat().st_mode & 0o777 == 0o600
    # The shipped file does not contain it, either.
    assert SECRET not in COMPOSE.read_text()


def test_the_relay_does_not_start_without_a_secret(tmp_path: pathlib.Path):
    result = subprocess.run(["/bin/sh", str(SCRIPT)], env={"PATH": os.environ["PATH"], "TURN_REALM": "x"}, capture_output=True, text=True)
    assert result.returncode != 0
    assert "TURN_SECRET" in result.stderr


def test_coturn_understands_every_line(relay):
    process = relay()
    said = [str(event.get("text")) for event in process.of("text")] + process.log.read_text().splitlines()
    assert [line for line in said if "Bad configuration format" in line or "unknown" in line.lower()] == []
