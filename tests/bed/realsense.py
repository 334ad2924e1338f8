"""What came out of realsensesrc, beside what was recorded."""

import dataclasses
import pathlib

import numpy as np

from .bed import Programs
from .process import Event, Process
from .recording import Recording

META = "GstRealSenseMeta"
ASYNC = "sync=false async=false"


@dataclasses.dataclass
class Buffer:
    """A buffer that an appsink named kept* has kept."""

    event: Event
    data: bytes

    @property
    def meta(self) -> Event:
        return self.event["metas"][META]

    @property
    def number(self) -> int:
        """Which sample of its stream it is."""
        return self.meta["frame-number"]

    def pixels(self, recording: Recording, channels: int = 1) -> np.ndarray:
        """As a picture of one plane of bytes or, for depth, of 16-bit numbers."""
        stream = recording.streams[self.meta["stream"]]
        values = np.frombuffer(self.data, "<u2" if "GRAY16_LE" in self.event["caps"] else np.uint8)
        rows = values.reshape(stream.height, -1)[:, : stream.width * channels]  # without what fills a row to its stride
        return rows.reshape(stream.height, stream.width, channels).squeeze()


def source(recording: Recording, more: str = "real-time=false") -> str:
    """The text of a realsensesrc that plays this, by itself every frame of it as fast as it is taken."""
    return f"realsensesrc name=camera recording-location={recording.path} {more}"


def start(programs: Programs, description: str, *options: str) -> Process:
    """A pipeline whose kept* keep their buffers, with metas."""
    return programs.pipeline("camera", description, f"--kept-folder={programs.logs}", f"--meta={META}", *options)


def buffers(folder: pathlib.Path, process: Process, pad: str = "kept") -> list[Buffer]:
    """What one appsink has kept so far."""
    data = (folder / f"{pad}.raw").read_bytes()
    return [Buffer(e, data[e["at"] : e["at"] + e["size"]]) for e in process.of("buffer", pad=pad)]


def play(programs: Programs, description: str, *options: str) -> dict[str, list[Buffer]]:
    """Runs a pipeline to its end and returns what each of its kept* has kept."""
    process = start(programs, description, *options)
    process.wait_for("bus", kind="eos")
    kept = {pad: buffers(programs.logs, process, pad) for pad in {e["pad"] for e in process.of("buffer")}}
    process.stop()
    return kept
