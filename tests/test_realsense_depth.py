"""Processing of depth in realsensesrc: colors, alignment, filters."""

import numpy as np
import pytest

from bed import recording
from bed.bed import Programs
from bed.realsense import ASYNC, Buffer, play, source
from bed.recording import Recording


def depth(programs: Programs, recorded: Recording, properties: str, caps: str = "video/x-raw,format=GRAY16_LE") -> list[Buffer]:
    """The depth buffers of a recording, with these properties set."""
    return play(programs, f"{source(recorded)} stream=depth {properties} ! {caps} ! appsink name=kept {ASYNC}")["kept"]


def values(buffer: Buffer, height: int) -> np.ndarray:
    return np.frombuffer(buffer.data, "<u2").reshape(height, -1)


def test_depth_is_colorized(programs: Programs, rgbd: Recording):
    got = depth(programs, rgbd, "colorize=true", "video/x-raw,format=RGB")
    assert [b.number for b in got] == list(range(len(rgbd.samples["depth"])))
    for buffer, sample in zip(got, rgbd.samples["depth"]):
        colors = buffer.pixels(rgbd, 3).astype(np.uint32)
        codes = colors[..., 0] << 16 | colors[..., 1] << 8 | colors[..., 2]
        assert (codes[sample == 0] == 0).all(), "unknown depth must be black"
        assert len(np.unique(codes[sample > 0])) > 100
        # The same distance has the same color in the whole picture.
        assert len(np.unique(codes.astype(np.uint64) << 16 | sample)) == len(np.unique(sample))


def test_colorized_depth_is_converted_for_an_encoder(programs: Programs, rgbd: Recording):
    assert len(depth(programs, rgbd, "colorize=true", "video/x-raw,format=I420")) == len(rgbd.samples["depth"])


# The focal length of the software device, in pixels, equals the width of the picture, and its color camera is 15 mm to the
# side. Alignment shifts a wall at 600 mm by 320 * 15 / 600 pixels, and a wall at twice that distance by half as much.
WALL, MOVED = 600, 8


@pytest.fixture
def wall(tmp_path) -> Recording:
    """A wall in front of two cameras next to each other, nearer in one half of the picture."""

    def draw(n: int) -> np.ndarray:
        picture = np.full((240, 320), WALL, "<u2")
        picture[:, 160:] = 2 * WALL
        return picture

    halves = recording.Stream("depth", "z16", 30, draw, 320, 240)
    return recording.make(tmp_path / "wall.bag", 0.5, recording.color_yuyv(), halves)


def test_depth_is_aligned_to_color(programs: Programs, wall: Recording):
    got = play(programs, f"{source(wall)} align=color camera.src ! queue ! appsink name=kept-color {ASYNC} "
                         f"camera.depth ! queue ! appsink name=kept {ASYNC}")
    assert len(got["kept"]) == len(got["kept-color"]) == len(wall.samples["depth"])
    for buffer in got["kept"]:
        picture = buffer.pixels(wall)
        # The nearer wall is shifted further, so there is a seam between the walls that is as wide as the difference.
        assert (picture[2:-2, MOVED + 2 : 160] == WALL).all()
        assert (picture[2:-2, 160 + MOVED + 2 : -2] == 2 * WALL).all()
        assert (picture[:, : MOVED - 2] == 0).all(), "depth to the left of the first column is unknown"


def test_depth_is_aligned_to_color_of_another_size(programs: Programs, tmp_path):
    recorded = recording.make(tmp_path / "sizes.bag", 0.5, recording.color_yuyv(640, 480), recording.depth_flat(1000))
    got = play(programs, f"{source(recorded)} align=color camera.src ! queue ! fakesink async=false "
                         f"camera.depth ! queue ! appsink name=kept {ASYNC}")["kept"]
    assert "width=(int)640" in got[0].event["caps"] and "height=(int)480" in got[0].event["caps"]
    assert got[0].meta["width"] == 640, "the intrinsics must be those of the aligned picture"
    for buffer in got:
        assert (values(buffer, 480)[16:-16, 16:-16] == 1000).all()


def test_color_is_aligned_to_depth(programs: Programs, tmp_path):
    recorded = recording.make(tmp_path / "sizes.bag", 0.5, recording.color_yuyv(640, 480), recording.depth_flat(1000))
    got = play(programs, f"{source(recorded)} align=depth camera.src ! queue ! appsink name=kept {ASYNC} "
                         f"camera.depth ! queue ! fakesink async=false")["kept"]
    assert "width=(int)320" in got[0].event["caps"] and "height=(int)240" in got[0].event["caps"]


def test_decimation_reduces_the_size(programs: Programs, rgbd: Recording):
    got = depth(programs, rgbd, "decimation=2")
    assert "width=(int)160" in got[0].event["caps"] and "height=(int)120" in got[0].event["caps"]
    for buffer, sample in zip(got, rgbd.samples["depth"]):
        # Each value is within the range of the four values that it replaces.
        four = sample.reshape(120, 2, 160, 2).swapaxes(1, 2).reshape(120, 160, 4)
        small = values(buffer, 120)
        assert ((four.min(2) <= small) & (small <= four.max(2))).all()


def test_threshold_clears_values_outside_its_range(programs: Programs, rgbd: Recording):
    for buffer, sample in zip(depth(programs, rgbd, 'threshold="<0.8,1.2>"'), rgbd.samples["depth"]):
        assert np.array_equal(values(buffer, 240), np.where((sample >= 800) & (sample <= 1200), sample, 0))


def noisy(tmp_path) -> Recording:
    """A wall that is measured with an error of up to 8 mm, which differs in each picture."""

    def draw(n: int) -> np.ndarray:
        return np.random.default_rng(n).integers(992, 1009, (240, 320)).astype("<u2")

    return recording.make(tmp_path / "noisy.bag", 1, recording.Stream("depth", "z16", 30, draw, 320, 240))


@pytest.mark.parametrize("smoothing", ["spatial", "temporal"])
def test_smoothing_reduces_noise(programs: Programs, tmp_path, smoothing: str):
    recorded = noisy(tmp_path)
    raw, smooth = (np.stack([values(b, 240) for b in depth(programs, recorded, f"{smoothing}={on}")]) for on in ("false", "true"))
    assert np.array_equal(raw, np.stack(recorded.samples["depth"]))
    settled = slice(10, None)  # Temporal smoothing needs several pictures.
    assert smooth[settled].std() < 0.7 * raw[settled].std()
    assert abs(smooth[settled].mean() - 1000) < 8


@pytest.mark.parametrize("way", ["fill-from-left", "farthest-from-around", "nearest-from-around"])
def test_hole_filling_fills_holes(programs: Programs, rgbd: Recording, way: str):
    for buffer, sample in zip(depth(programs, rgbd, f"hole-filling={way}"), rgbd.samples["depth"]):
        filled = values(buffer, 240)
        known = sample > 0
        assert np.array_equal(filled[known], sample[known])
        # Holes are filled from neighbors; the library does not change the outermost pixels.
        assert (filled[8:-8, 8:-8] > 0).mean() > 0.99 > (sample[8:-8, 8:-8] > 0).mean()
