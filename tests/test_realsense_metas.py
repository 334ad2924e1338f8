"""The metadata on the buffers of realsensesrc, as a Python program reads it."""

import math

from bed.bed import Programs
from bed.realsense import ASYNC, play, source
from bed.recording import EXPOSURE, GAIN, Recording


def test_buffers_of_color_and_depth_carry_metas(programs: Programs, rgbd: Recording):
    got = play(programs, f"{source(rgbd)} camera.src ! queue max-size-buffers=0 ! appsink name=kept-color {ASYNC} "
                         f"camera.depth ! queue max-size-buffers=0 ! appsink name=kept-depth {ASYNC}")
    for name in ("color", "depth"):
        for n, buffer in enumerate(got[f"kept-{name}"]):
            meta = buffer.meta
            assert (meta["stream"], meta["frame-number"], meta["exposure"], meta["gain"]) == (name, n, EXPOSURE, GAIN)
            assert (meta["width"], meta["height"]) == (320, 240)
            assert (meta["fx"], meta["fy"], meta["ppx"], meta["ppy"]) == (320, 320, 160, 120)
            assert meta["distortion"] and [meta[f"coeff-{i}"] for i in range(5)] == [0] * 5
            if name == "depth":
                assert math.isclose(meta["depth-units"], 0.001, rel_tol=1e-6)
            else:
                assert "depth-units" not in meta


def test_metas_survive_elements_downstream(programs: Programs, rgbd: Recording):
    got = play(programs, f"{source(rgbd)} ! queue ! identity ! appsink name=kept {ASYNC}")["kept"]
    assert [b.number for b in got] == list(range(len(rgbd.samples["color"])))
