"""What a test holds: programs that end with it; in a Bed the network, the server in it, and how to start peers of each kind."""

import itertools
import json
import os
import pathlib
import signal
import subprocess

from . import network
from .process import Event, Failed, Process, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
RELEASE = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
# The library that scripts/setup-librealsense.sh makes where no SDK is installed.
LIBREALSENSE = ROOT / ".cache" / "librealsense" / "2.56.5"
PROGRAMS = pathlib.Path(__file__).parent / "programs"
# The system's Python has gi; the environment's has aiortc, websockets and playwright.
SYSTEM_PYTHON = "/usr/bin/python3"
PYTHON = str(ROOT / ".venv" / "bin" / "python")
PORT = 8765
RATE = 30

# Decoders that add no delay of their own.
DECODE_H264 = "h264parse ! avdec_h264 max-threads=1 ! videoconvert ! video/x-raw,format=I420 ! appsink name=frames sync=false async=false"
DECODE_ANY = "decodebin ! videoconvert ! video/x-raw,format=I420 ! appsink name=frames sync=false async=false"
# Encoders as a user who knows what live means sets them; key frames only when asked for.
X264 = "x264enc name=encoder tune=zerolatency speed-preset=ultrafast bitrate=1000 key-int-max=3000"
VP8 = "vp8enc name=encoder deadline=1 cpu-used=8 target-bitrate=1000000 keyframe-max-dist=3000"


def picture(width: int = 320, height: int = 240, name: str = "picture") -> str:
    """The live source of bar-code pictures."""
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate={RATE}/1"
    return (f"appsrc name={name} is-live=true format=time do-timestamp=true leaky-type=downstream max-buffers=30 max-bytes=0 "
            f"caps={caps} ! queue")


def make_recording(bed: "Bed", seconds: int = 20) -> pathlib.Path:
    """Bar-code pictures in a file, 30 a second, a keyframe each second."""
    path = bed.logs / "recording.mkv"
    writer = bed.pipeline(
        "writer", f"appsrc name=picture format=time block=true caps=video/x-raw,format=I420,width=320,height=240,framerate={RATE}/1 "
                  f"! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! matroskamux ! filesink location={path}",
        "--unpaced", f"--pictures={RATE * seconds}")
    writer.wait_for("bus", kind="eos", timeout=30)
    writer.stop()
    return path


def plugin_environment(plugins: pathlib.Path, registry: pathlib.Path) -> dict[str, str]:
    """What GStreamer programs need to find our plugins, and those the libraries that they are linked to."""
    libraries = [os.environ.get("LD_LIBRARY_PATH"), str(LIBREALSENSE / "lib")]
    return {"GST_PLUGIN_PATH": str(plugins), "GST_REGISTRY": str(registry), "LD_LIBRARY_PATH": ":".join(filter(None, libraries))}


class Programs:
    """Everything that it started ends with it; a program that crashed or panicked fails the test then."""

    def __init__(self, logs: pathlib.Path, registry: pathlib.Path):
        self.logs = logs
        self.processes: list[Process] = []
        self._numbers = itertools.count(1)
        self.expected_deaths: set[Process] = set()
        self.env = {
            **plugin_environment(RELEASE, registry), "GST_DEBUG_NO_COLOR": "1",
            "GST_DEBUG": os.environ.get("GST_DEBUG", "2,roomwebrtc*:4,realsense*:4"), "RUST_BACKTRACE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, name: str, command: list[str]) -> Process:
        """Starts a program."""
        process = Process(f"{name}-{next(self._numbers)}", command, self.logs, self.env)
        self.processes.append(process)
        return process

    def pipeline(self, name: str, description: str, *options: str) -> Process:
        """A pipeline under our control (programs/pipeline.py says what names in it mean); returns when it is started."""
        return self._ready(self.run(name, self._pipeline(description, options)))

    @staticmethod
    def _pipeline(description: str, options: tuple[str, ...]) -> list[str]:
        return [SYSTEM_PYTHON, str(PROGRAMS / "pipeline.py"), *options, "--", description]

    @staticmethod
    def _ready(process: Process) -> Process:
        process.wait_for("ready")
        return process

    def kill(self, process: Process) -> None:
        """Ends a program at once, as a power cut would."""
        self.expected_deaths.add(process)
        process.kill()

    def close(self) -> None:
        """Ends everything; complains of crashes, panics and critical warnings."""
        complaints = []
        for process in reversed(self.processes):
            died = process.popen.poll()
            if died is not None and died < 0 and died != -signal.SIGTERM and process not in self.expected_deaths:
                complaints.append(f"{process.name} died of signal {-died}\n{process.tail()}")
            elif died is None:
                try:
                    process.stop()
                except Failed as error:
                    complaints.append(str(error))
            log = process.log.read_text(errors="replace")
            for line in log.splitlines():
                if "panicked at" in line or "-CRITICAL **" in line:
                    complaints.append(f"{process.name}: {line}")
        if complaints:
            raise Failed("\n".join(complaints))


class Bed(Programs):
    """Peers in two network namespaces."""

    def __init__(self, net: network.Network, logs: pathlib.Path, registry: pathlib.Path):
        super().__init__(logs, registry)
        self.network = net
        self.uri = f"ws://{net.address}:{PORT}"
        self.server: Process | None = None

    def start(self, name: str, command: list[str], namespace: str) -> Process:
        """Runs a program of any kind in a namespace."""
        return self.run(name, network.Network.within(namespace, command))

    # The server

    def start_server(self, command: list[str] | None = None, options: tuple[str, ...] = ()) -> Process:
        """The real server, where the network has a place for it; returns when it listens. `command` is another way to run it."""
        command = command or [str(RELEASE / "room-signaling"), "serve", "--listen", f"{self.network.address}:{PORT}", *options]
        self.server = self.start("server", command, self.network.server)
        self.server.wait("listening", lambda: network.is_bound(self.server.pid, "tcp", PORT), 10)
        return self.server

    def members(self, room: str) -> dict[str, Event]:
        """Who is in the room now, by id, as the server says."""
        out = subprocess.run(
            network.Network.within(self.network.receivers, [PYTHON, str(PROGRAMS / "observer.py"), self.uri, room]),
            check=True, capture_output=True, text=True, timeout=20).stdout
        answer = json.loads(out.splitlines()[0])
        if answer["event"] != "peers":
            raise Failed(f"the observer was refused: {answer}")
        return {peer["client_id"]: peer for peer in answer["peers"]}

    def wait_members(self, room: str, ids: set[str], timeout: float = 20) -> None:
        """Waits until exactly these are in the room."""
        wait_until(f"{ids} in {room}", lambda: set(self.members(room)) == ids, timeout)

    # GStreamer peers

    def pipeline(self, name: str, description: str, *options: str, receiving: bool = False) -> Process:
        """Likewise, where senders are or where receivers are."""
        return self._ready(self.start(name, self._pipeline(description, options),
                                      self.network.receivers if receiving else self.network.senders))

    def sink(self, room: str, client_id: str = "camera", more: str = "") -> str:
        """The text of a roomwebrtcsink."""
        return f"roomwebrtcsink name=room room={room} client-id={client_id} signaling-uri={self.uri} {more}"

    def sender(self, room: str, client_id: str = "camera", source: int = 1, encoder: str = X264, size: tuple[int, int] = (320, 240),
               more: str = "", options: tuple[str, ...] = ()) -> Process:
        """A sender of bar-code pictures, in the room when this returns."""
        process = self.pipeline(
            client_id, f"{picture(*size)} ! {encoder} ! {self.sink(room, client_id, more)}", f"--source={source}", *options)
        self.wait_state(process)
        return process

    def wait_state(self, process: Process, state: str = "joined", timeout: float = 15) -> None:
        """Waits for an element named `room` to say where it stands with the server."""
        process.wait(f"signaling-state {state}",
                     lambda: process.ask("get", element="room", property="signaling-state") == state, timeout)

    def receivers_of(self, sender: Process) -> set[str]:
        """The ids of the receivers that a sink has."""
        value = sender.ask("get", element="room", property="receivers")
        return set(value or ())

    def receiver(self, room: str, client_id: str = "watcher", decode: str = DECODE_H264, more: str = "") -> Process:
        """A roomwebrtcsrc that decodes every stream it gets."""
        return self.pipeline(
            client_id, f"roomwebrtcsrc name=room room={room} client-id={client_id} signaling-uri={self.uri} {more}",
            f"--each-pad={decode}", receiving=True)

    def gst_launch(self, name: str, description: str, *options: str, receiving: bool = False) -> Process:
        """The line as a user types it."""
        return self.start(name, ["gst-launch-1.0", *options, *description.split()],
                          self.network.receivers if receiving else self.network.senders)

    # Other peers

    def browser(self, room: str, name: str = "browser", flags: tuple[str, ...] = (), without_codec: str = "",
                bad_ice_server: bool = False) -> Process:
        """Headless Chromium on the viewer page, perhaps one that lacks a codec or is told of a bad ICE server."""
        page = f"{self.uri.replace('ws', 'http', 1)}/?room={room}"
        options = [*(["--without-codec", without_codec] if without_codec else []), *(["--bad-ice-server"] if bad_ice_server else [])]
        process = self.start(name, [PYTHON, str(PROGRAMS / "browser.py"), *options, page, *flags], self.network.receivers)
        process.wait_for("ready", 30)
        return process

    def member(self, room: str, client_id: str, role: str = "receiver") -> Process:
        """A member of the room that sends what the test asks it to."""
        process = self.start(
            client_id, [PYTHON, str(PROGRAMS / "raw_client.py"), self.uri, room, client_id, role], self.network.receivers)
        process.wait_for("message", type="joined")
        return process

    def old_client(self, room: str, client_id: str = "old", *options: str) -> Process:
        """Stock aiortc, speaking as clients always did."""
        process = self.start(
            client_id, [PYTHON, str(PROGRAMS / "aiortc_old.py"), *options, "--", self.uri, room, client_id], self.network.receivers)
        process.wait_for("ready", 30)
        return process
