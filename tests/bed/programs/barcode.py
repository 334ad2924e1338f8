"""A clock and a counter drawn in the picture, so that whoever decodes it knows which frame it is and how old.

Five rows of 16 black or white cells at the top, each a 16th of the width in size:
rows 0 and 1 the time of drawing, row 2 and half of row 3 the frame's number, the rest of row 3 who drew it,
row 4 a check sum. tests/bed/programs/barcode.js reads the same.
"""

import time
import typing
import zlib

import numpy as np

COLUMNS = 16
ROWS = 5
BLACK, WHITE = 16, 235
THRESHOLD = 125
# Time is counted in units of 0.1 ms of wall-clock time, modulo 2 ** 32 (five days).
TICKS_PER_MS = 10
TICKS = 1 << 32


class Mark(typing.NamedTuple):
    """What one picture carries."""

    ticks: int
    counter: int
    source: int


def now() -> int:
    """The time of day in ticks."""
    return time.time_ns() // (1_000_000 // TICKS_PER_MS) % TICKS


def age_ms(mark: Mark) -> float:
    """How long ago the picture was drawn, in milliseconds; slightly negative only where clocks differ."""
    age = (now() - mark.ticks) % TICKS
    return (age - TICKS if age > TICKS // 2 else age) / TICKS_PER_MS


def _check(ticks: int, counter: int, source: int) -> int:
    return zlib.crc32(ticks.to_bytes(4, "big") + counter.to_bytes(3, "big") + bytes([source])) & 0xFFFF


def draw(luma: np.ndarray, counter: int, source: int) -> None:
    """Draws the time of now over the top of `luma` (height x width, uint8)."""
    cell = luma.shape[1] // COLUMNS
    ticks, counter = now(), counter % (1 << 24)
    number = ticks << 48 | counter << 24 | source << 16 | _check(ticks, counter, source)
    bits = np.array([number >> (ROWS * COLUMNS - 1 - i) & 1 for i in range(ROWS * COLUMNS)], dtype=np.uint8)
    cells = (bits * (WHITE - BLACK) + BLACK).reshape(ROWS, COLUMNS)
    luma[: ROWS * cell, : COLUMNS * cell] = cells.repeat(cell, axis=0).repeat(cell, axis=1)


def read(luma: np.ndarray) -> Mark | None:
    """What the picture carries, or None where it can't be read (another picture, or damage)."""
    cell = luma.shape[1] // COLUMNS
    if luma.shape[0] < ROWS * cell or cell < 4:
        return None
    middle = slice(cell // 2, None, cell)
    cells = luma[: ROWS * cell, : COLUMNS * cell][middle, middle]
    number = int("".join("1" if c > THRESHOLD else "0" for c in cells.flat), 2)
    mark = Mark(number >> 48, number >> 24 & 0xFFFFFF, number >> 16 & 0xFF)
    return mark if number & 0xFFFF == _check(*mark) else None


class Painter:
    """Makes the pictures: a moving pattern with the mark on it, I420."""

    def __init__(self, width: int, height: int, source: int):
        self.width, self.height, self.source, self.counter = width, height, source, 0
        rows, columns = np.mgrid[0:height, 0:width]
        self._pattern = ((rows + columns) // 4 % 180 + 30).astype(np.uint8)
        self._chroma = np.full(width * height // 2, 128, dtype=np.uint8).tobytes()

    def paint(self) -> bytes:
        """The next picture."""
        luma = np.roll(self._pattern, self.counter * 3, axis=1)
        draw(luma, self.counter, self.source)
        self.counter += 1
        return luma.tobytes() + self._chroma
