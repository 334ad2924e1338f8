"""RealSense recordings made at test time, whose every pixel is known.

The pictures are drawn here and written by the program `record` (gst-plugins/realsense/examples), which feeds them to a
software device of the real librealsense and has that record itself. What is drawn stays in `Recording.samples`, to
compare with what arrives.
"""

import collections.abc
import dataclasses
import fractions
import heapq
import os
import pathlib
import subprocess
import sys

import numpy as np

from .bed import PROGRAMS, RELEASE, plugin_environment

sys.path.insert(0, str(PROGRAMS))
import barcode  # noqa: E402

# The development build: it only writes what it is given.
RECORD = RELEASE.parent / "debug" / "examples" / "record"
SERIAL = "SW0001"
# What `record` writes with each sample: the device's time of the first one, exposure, gain.
STARTED_MS, EXPOSURE, GAIN = 5000, 156, 64
BLOCK = 16
# Colors of the blocks, far from each other, as Y'UV and as R'G'B' (BT.601, limited range, to within rounding).
YUV = np.array([(180, 128, 128), (65, 212, 100), (112, 90, 200), (150, 60, 110), (90, 160, 170), (200, 110, 90)], np.uint8)
RGB = np.array([(191, 30, 60), (20, 180, 40), (40, 60, 210), (220, 220, 220), (240, 200, 10), (10, 10, 10)], np.uint8)


@dataclasses.dataclass(frozen=True)
class Stream:
    """One stream of a recording. `draw(n)` gives sample n as bytes lie in memory."""

    name: str  # color, depth, infrared1, infrared2, gyro, accel
    format: str  # yuyv, rgb8, z16, y8, xyz
    rate: int
    draw: collections.abc.Callable[[int], np.ndarray]
    width: int = 0
    height: int = 0

    def __str__(self) -> str:
        size = f":{self.width}x{self.height}" if self.width else ""
        return f"{self.name}={self.format}{size}@{self.rate}"


def blocks(width: int, height: int, n: int, colors: int) -> np.ndarray:
    """Which color each pixel has: blocks that move on by one block with each picture."""
    rows, columns = np.mgrid[0:height, 0:width] // BLOCK
    return (rows * 2 + columns + n) % colors


def color_yuyv(width: int = 320, height: int = 240, rate: int = 30, marked: bool = False) -> Stream:
    """Colored blocks; `marked`: with a bar code on top, which the receivers of the bed read."""

    def draw(n: int) -> np.ndarray:
        picture = YUV[blocks(width, height, n, len(YUV))]
        luma = picture[..., 0].copy()
        if marked:
            barcode.draw(luma, n, 1)
        packed = np.empty((height, width, 2), np.uint8)
        packed[..., 0] = luma
        packed[:, 0::2, 1] = picture[:, 0::2, 1]
        packed[:, 1::2, 1] = picture[:, 0::2, 2]
        return packed

    return Stream("color", "yuyv", rate, draw, width, height)


def color_rgb8(width: int = 320, height: int = 240, rate: int = 30) -> Stream:
    """Colored blocks."""
    return Stream("color", "rgb8", rate, lambda n: RGB[blocks(width, height, n, len(RGB))], width, height)


def depth_slope(width: int = 320, height: int = 240, rate: int = 30) -> Stream:
    """Millimeters that rise to the right, downward and with time; a hole of nothing in every 17th block."""

    def draw(n: int) -> np.ndarray:
        rows, columns = np.mgrid[0:height, 0:width]
        values = 500 + 3 * columns + 2 * rows + 5 * (n % 100)
        return np.where((rows // 8 + columns // 8) % 17 == 0, 0, values).astype("<u2")

    return Stream("depth", "z16", rate, draw, width, height)


def depth_flat(millimeters: int, width: int = 320, height: int = 240, rate: int = 30) -> Stream:
    """A wall in front of the camera."""
    return Stream("depth", "z16", rate, lambda _n: np.full((height, width), millimeters, "<u2"), width, height)


def infrared(index: int, width: int = 320, height: int = 240, rate: int = 30) -> Stream:
    """Gray stripes, which tell the left imager (1) from the right one (2)."""

    def draw(n: int) -> np.ndarray:
        rows, columns = np.mgrid[0:height, 0:width]
        return ((columns * index + rows + 3 * n) % 256).astype(np.uint8)

    return Stream(f"infrared{index}", "y8", rate, draw, width, height)


def motion(name: str, rate: int) -> Stream:
    """Rotation (gyro) or acceleration (accel): three numbers that say which sample of which sensor they are."""
    sign = 1 if name == "gyro" else -1
    return Stream(name, "xyz", rate, lambda n: np.array([sign * n / 64, sign * n / 128, sign * 9.75], "<f4"))


@dataclasses.dataclass
class Recording:
    """A recording in a file, and what is in it."""

    path: pathlib.Path
    streams: dict[str, Stream]
    samples: dict[str, list[np.ndarray]]


def in_order(streams: collections.abc.Sequence[Stream], seconds: float) -> collections.abc.Iterator[tuple[Stream, int]]:
    """All samples in the order in which `record` wants them: by time, then as the streams are named."""
    due = [(fractions.Fraction(0), place, 0) for place in range(len(streams))]
    while due:
        when, place, n = heapq.heappop(due)
        if when < seconds:
            yield streams[place], n
            heapq.heappush(due, (fractions.Fraction(n + 1, streams[place].rate), place, n + 1))


def make(path: pathlib.Path, seconds: float, *streams: Stream, serial: str = SERIAL) -> Recording:
    """Records for that long, in real time: playback keeps the distances in which samples were recorded."""
    samples: dict[str, list[np.ndarray]] = {stream.name: [] for stream in streams}
    order = list(in_order(streams, seconds))
    for stream, n in order:
        samples[stream.name].append(stream.draw(n))
    write(path, (samples[stream.name][n].tobytes() for stream, n in order), *streams, serial=serial)
    return Recording(path, {stream.name: stream for stream in streams}, samples)


def write(path: pathlib.Path, samples: collections.abc.Iterable[bytes], *streams: Stream, serial: str = SERIAL,
          compressed: bool = True) -> None:
    """Has `record` write these samples, which are in order."""
    with subprocess.Popen(
            [str(RECORD), str(path), serial, str(compressed).lower(), *map(str, streams)], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **plugin_environment(RELEASE, path.with_suffix(".registry"))}) as record:
        for sample in samples:
            record.stdin.write(sample)
        record.stdin.close()
        words = record.stderr.read().decode()
    assert record.returncode == 0, words


def to_i420(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The planes of a YUYV picture that is drawn in blocks, so that no two lines that share their chroma differ in it."""
    return packed[..., 0], packed[0::2, 0::2, 1], packed[0::2, 1::2, 1]
