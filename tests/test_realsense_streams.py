"""Every stream of realsensesrc in every format equals the recording, pixel by pixel."""

import numpy as np
import pytest

from bed import recording
from bed.bed import Programs
from bed.realsense import ASYNC, Buffer, play, source
from bed.recording import Recording, to_i420

# The rounding error of GStreamer's conversion between color spaces, which calculates with 8 bits.
ROUNDING = 6


def check_complete(got: list[Buffer], recorded: Recording, stream: str) -> None:
    """Checks that every sample arrives once, in order."""
    assert [b.number for b in got] == list(range(len(recorded.samples[stream])))
    assert {b.meta["stream"] for b in got} == {stream}


def one(programs: Programs, recorded: Recording, more: str, caps: str = "") -> list[Buffer]:
    """The buffers of the pad `src`."""
    between = f"! {caps}" if caps else ""
    return play(programs, f"{source(recorded)} {more} {between} ! appsink name=kept {ASYNC}")["kept"]


def planes(buffer: Buffer, width: int, height: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three planes of I420 or NV12, whose rows have no padding at this width."""
    data = np.frombuffer(buffer.data, np.uint8)
    luma, chroma = data[: width * height].reshape(height, width), data[width * height :]
    if kind == "I420":
        u, v = chroma.reshape(2, height // 2, width // 2)
        return luma, u, v
    pairs = chroma.reshape(height // 2, width // 2, 2)
    return luma, pairs[..., 0], pairs[..., 1]


def test_color_keeps_the_format_of_the_camera_by_default(programs: Programs, rgbd: Recording):
    got = one(programs, rgbd, "stream=color")
    check_complete(got, rgbd, "color")
    assert "format=(string)YUY2" in got[0].event["caps"] and "width=(int)320" in got[0].event["caps"]
    assert "framerate=(fraction)30/1" in got[0].event["caps"]
    for buffer, sample in zip(got, rgbd.samples["color"]):
        assert np.array_equal(buffer.pixels(rgbd, 2), sample)


@pytest.mark.parametrize("kind", ["I420", "NV12"])
def test_color_is_converted_for_encoders(programs: Programs, rgbd: Recording, kind: str):
    got = one(programs, rgbd, "", f"video/x-raw,format={kind}")
    check_complete(got, rgbd, "color")
    for buffer, sample in zip(got, rgbd.samples["color"]):
        (luma, *chroma), (true_luma, *true_chroma) = planes(buffer, 320, 240, kind), to_i420(sample)
        assert np.array_equal(luma, true_luma)
        # Lines that share chroma belong to one block; the filter for NV12 covers more than two lines.
        within = inner(320, 240)[0::2, 0::2] if kind == "NV12" else np.ones((120, 160), bool)
        for plane, wanted in zip(chroma, true_chroma):
            assert np.array_equal(plane[within], wanted[within])


def test_color_is_converted_to_gray(programs: Programs, rgbd: Recording):
    got = one(programs, rgbd, "", "video/x-raw,format=GRAY8")
    check_complete(got, rgbd, "color")
    for buffer, sample in zip(got, rgbd.samples["color"]):
        assert np.array_equal(buffer.pixels(rgbd), sample[..., 0])


@pytest.mark.parametrize("kind", ["RGB", "BGR", "RGBA"])
def test_color_is_converted_to_rgb(programs: Programs, tmp_path, kind: str):
    recorded = recording.make(tmp_path / "yuyv.bag", 0.5, recording.color_yuyv())
    got = one(programs, recorded, "", f"video/x-raw,format={kind}")
    check_complete(got, recorded, "color")
    # The three channels of each color by BT.601, which GStreamer uses for pictures of this size.
    y, u, v = (recording.YUV[:, i].astype(float) - o for i, o in ((0, 16), (1, 128), (2, 128)))
    rgb = np.stack([1.164 * y + 1.596 * v, 1.164 * y - 0.392 * u - 0.813 * v, 1.164 * y + 2.017 * u], 1).clip(0, 255)
    for buffer in got:
        wanted = rgb[recording.blocks(320, 240, buffer.number, len(recording.YUV))]
        pixels = buffer.pixels(recorded, len(kind)).astype(float)
        if kind == "RGBA":
            assert (pixels[..., 3] == 255).all()
        channels = pixels[..., 2::-1] if kind == "BGR" else pixels[..., :3]
        # Only pixels away from the edges of blocks, where chroma is interpolated.
        assert np.abs(channels - wanted)[inner(320, 240)].max() <= ROUNDING


def inner(width: int, height: int) -> np.ndarray:
    """The pixels that are not at the edge of a block."""
    rows, columns = np.mgrid[0:height, 0:width] % recording.BLOCK
    edge = [0, 1, recording.BLOCK - 2, recording.BLOCK - 1]
    return ~(np.isin(rows, edge) | np.isin(columns, edge))


@pytest.mark.parametrize("width", [320, 322], ids=["plain", "padded-rows"])
def test_rgb8_keeps_its_format_by_default(programs: Programs, tmp_path, width: int):
    recorded = recording.make(tmp_path / "rgb8.bag", 0.5, recording.color_rgb8(width))
    got = one(programs, recorded, "")
    check_complete(got, recorded, "color")
    assert "format=(string)RGB," in got[0].event["caps"]
    for buffer, sample in zip(got, recorded.samples["color"]):
        assert np.array_equal(buffer.pixels(recorded, 3), sample)


def test_rgb8_is_converted_to_i420(programs: Programs, tmp_path):
    recorded = recording.make(tmp_path / "rgb8.bag", 0.5, recording.color_rgb8())
    got = one(programs, recorded, "", "video/x-raw,format=I420")
    check_complete(got, recorded, "color")
    r, g, b = recording.RGB.astype(float).T
    luma = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    for buffer in got:
        wanted = luma[recording.blocks(320, 240, buffer.number, len(recording.RGB))]
        assert np.abs(planes(buffer, 320, 240, "I420")[0] - wanted).max() <= ROUNDING


def test_depth_is_in_millimeters(programs: Programs, rgbd: Recording):
    got = one(programs, rgbd, "stream=depth", "video/x-raw,format=GRAY16_LE")
    check_complete(got, rgbd, "depth")
    for buffer, sample in zip(got, rgbd.samples["depth"]):
        assert np.array_equal(buffer.pixels(rgbd), sample)


@pytest.mark.parametrize("stream", ["infrared1", "infrared2"])
def test_infrared_is_exact(programs: Programs, rgbd: Recording, stream: str):
    got = one(programs, rgbd, f"stream={stream}", "video/x-raw,format=GRAY8")
    check_complete(got, rgbd, stream)
    for buffer, sample in zip(got, rgbd.samples[stream]):
        assert np.array_equal(buffer.pixels(rgbd), sample)


def test_motion_is_exact(programs: Programs, rgbd: Recording):
    got = play(programs, f"{source(rgbd)} camera.motion ! appsink name=kept {ASYNC}")["kept"]
    assert got[0].event["caps"].startswith("application/x-realsense-motion")
    assert "gyro-rate=(int)200" in got[0].event["caps"] and "accel-rate=(int)100" in got[0].event["caps"]
    for kind, name in enumerate(("accel", "gyro")):
        samples = [b for b in got if b.meta["stream"] == name]
        assert [b.number for b in samples] == list(range(len(rgbd.samples[name])))
        for buffer, sample in zip(samples, rgbd.samples[name]):
            assert buffer.data == sample.tobytes() + kind.to_bytes(4, "little")


def test_all_pads_deliver_every_sample_once(programs: Programs, rgbd: Recording):
    """librealsense repeats frames when it combines them into sets; the element does not."""
    pads = {"src": "color", "depth": "depth", "infrared_1": "infrared1", "infrared_2": "infrared2"}
    branches = " ".join(f"camera.{pad} ! queue max-size-buffers=0 ! appsink name=kept-{pad} {ASYNC}" for pad in pads)
    got = play(programs, f"{source(rgbd)} {branches} camera.motion ! queue max-size-buffers=0 ! appsink name=kept-motion {ASYNC}")
    for pad, stream in pads.items():
        check_complete(got[f"kept-{pad}"], rgbd, stream)
        for buffer, sample in zip(got[f"kept-{pad}"], rgbd.samples[stream]):
            assert buffer.data == sample.tobytes(), (pad, buffer.number)
    assert len(got["kept-motion"]) == len(rgbd.samples["gyro"]) + len(rgbd.samples["accel"])
    # Frames that were captured at the same time have the same timestamp.
    for color, depth in zip(got["kept-src"], got["kept-depth"]):
        assert abs(color.event["pts"] - depth.event["pts"]) < 1_000_000


def test_a_request_pad_streams_without_the_src_pad(programs: Programs, rgbd: Recording):
    got = play(programs, f"{source(rgbd)} camera.depth ! appsink name=kept {ASYNC}")
    check_complete(got["kept"], rgbd, "depth")


def test_the_color_pad_streams_next_to_depth(programs: Programs, rgbd: Recording):
    got = play(programs, f"{source(rgbd)} stream=depth camera.src ! queue ! appsink name=kept-depth {ASYNC} "
                         f"camera.color ! queue ! appsink name=kept-color {ASYNC}")
    check_complete(got["kept-depth"], rgbd, "depth")
    check_complete(got["kept-color"], rgbd, "color")
