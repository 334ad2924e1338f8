"""The image of the signaling server: it contains only the server, which needs no privileges and signals for a stream."""

import json
import os
import pathlib
import signal
import subprocess

import pytest
import yaml

from bed import frames, network
from bed.bed import PORT, PYTHON, ROOT, Bed
from bed.container import Containers
from bed.process import wait_until

IMAGE = "room-signaling:test"
# The first test builds the image.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Containers:
    """Container tools, with the image built."""
    made = Containers(tmp_path_factory.mktemp("containers"))
    made.build(ROOT / "scripts" / "container.sh", IMAGE)
    return made


def test_the_image_contains_only_the_server(containers: Containers, tmp_path: pathlib.Path):
    image = containers.inspect(IMAGE)
    config = image["Config"]
    assert config["User"] == "65534:65534"
    assert config["Entrypoint"] == ["/room-signaling"]
    assert image["Healthcheck"]["Test"] == ["CMD", "/room-signaling", "healthcheck"]
    assert f"{PORT}/tcp" in config["ExposedPorts"]
    containers.podman("save", "--format=docker-archive", f"--output={tmp_path}/image.tar", IMAGE)
    subprocess.run(["tar", "-xf", "image.tar"], cwd=tmp_path, check=True)
    [layer] = json.loads((tmp_path / "manifest.json").read_text())[0]["Layers"]
    files = subprocess.run(["tar", "-tf", str(tmp_path / layer)], check=True, capture_output=True, text=True).stdout.split()
    assert files == ["room-signaling"]


def test_a_container_signals_for_a_stream(empty_bed: Bed, containers: Containers):
    empty_bed.start_server(containers.run_command(IMAGE, "server"))
    sender = empty_bed.sender("living_room")
    receiver = empty_bed.receiver("living_room")
    browser = empty_bed.browser("living_room")
    for watcher in (receiver, browser):
        frames.wait_first(watcher)
    containers.podman("exec", "server", *containers.inspect(IMAGE)["Healthcheck"]["Test"][1:])

    # Stopped like an orchestrator does: members are informed, the exit is clean, and the video continues.
    containers.podman("stop", "--time=10", "server")
    assert empty_bed.server.popen.wait(10) == 0
    empty_bed.wait_state(sender, "reconnecting")
    frames.check_flow(frames.watch(receiver, 2), 2)


def test_a_container_accepts_flags_and_environment_variables(empty_bed: Bed, containers: Containers):
    port = PORT + 1
    command = containers.run_command(IMAGE, "elsewhere", "serve", "--listen", f"{network.SENDERS}:{port}", "--default-room", "")
    server = empty_bed.start("elsewhere", command, empty_bed.network.senders)
    wait_until("it listens", lambda: f'"listen":"{network.SENDERS}:{port}"' in server.log.read_text(), 20)
    server.send_signal(signal.SIGTERM)  # podman forwards it
    assert server.popen.wait(10) == 0


def test_the_compose_file_starts_a_relay(empty_bed: Bed, containers: Containers):
    """The image of the relay is not available here, so the same program runs with the same options (see also test_relay.py)."""
    host = network.SENDERS
    # The peers are in a private network, which the operator has to allow.
    settings = {**os.environ, "HOST": host, "TURN_SECRET": "0123456789abcdef0123456789abcdef",
                "TURN_ALLOWED_PEERS": "10.77.0.0-10.77.0.255"}
    file = ROOT / "signaling" / "server" / "compose.yaml"
    shown = subprocess.run([PYTHON, "-m", "podman_compose", "-f", str(file), "config"], check=True, capture_output=True, text=True,
                           env=settings).stdout
    services = yaml.safe_load(shown)["services"]
    variables = [f"{name}={value or ''}" for name, value in services["turn"]["environment"].items()]
    command = ["env", f"TMPDIR={empty_bed.logs}", *variables, "sh", str(ROOT / "deploy" / "turnserver.sh"), "--verbose",
               f"--listening-ip={host}", f"--relay-ip={host}"]
    relay = empty_bed.start("relay", command, empty_bed.network.senders)
    empty_bed.start_server(containers.run_command(IMAGE, "server", environment=services["signaling"]["environment"]))
    empty_bed.sender("living_room")
    receiver = empty_bed.receiver("living_room", more="ice-transport-policy=relay")
    frames.wait_first(receiver)
    frames.check_flow(frames.watch(receiver, 2), 2)
    assert any("ALLOCATE processed, success" in line["text"] for line in relay.of("text")), relay.tail()
