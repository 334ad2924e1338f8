"""realsensesrc on GStreamer 1.26 (a Debian 13 tree): the same plugin file, the same library, the same pixels."""

import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from bed.bed import RELEASE, ROOT, plugin_environment
from bed.recording import Recording, to_i420

TREE = ROOT / ".cache" / "trixie"
# A folder other than that of test_gst126.py.
WITHIN = "/opt/realsense"
COMMAND = ["chroot", str(TREE), "env", f"GST_PLUGIN_PATH={WITHIN}", f"GST_REGISTRY={WITHIN}/registry.bin", f"LD_LIBRARY_PATH={WITHIN}",
           "gst-launch-1.0", "-q"]


@pytest.fixture
def tree(built: pathlib.Path, rgbd: Recording) -> str:
    """The path of the recording in the Debian 13 tree, which also contains the plugin and the library."""
    assert (TREE / "usr/bin/gst-launch-1.0").exists(), f"{TREE} is missing: run scripts/setup.sh test"
    folder = TREE / WITHIN.lstrip("/")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    plugin = shutil.copy(RELEASE / "libgstrealsense.so", folder)
    linked = subprocess.run(["ldd", plugin], check=True, capture_output=True, text=True,
                            env={**os.environ, **plugin_environment(RELEASE, folder / "registry.bin")}).stdout
    for library in re.findall(r"=> (\S*/librealsense2\S*) ", linked):
        shutil.copy(library, folder / pathlib.Path(library).name)
    shutil.copy(rgbd.path, folder)
    return f"{WITHIN}/{rgbd.path.name}"


def test_color_on_1_26_is_exact(tree: str, rgbd: Recording):
    out = subprocess.run([*COMMAND, *f"realsensesrc recording-location={tree} real-time=false ! video/x-raw,format=I420 ! fdsink".split()],
                         check=True, capture_output=True).stdout
    pictures = np.frombuffer(out, np.uint8).reshape(-1, 320 * 240 * 3 // 2)
    assert len(pictures) == len(rgbd.samples["color"])
    for picture, sample in zip(pictures, rgbd.samples["color"]):
        assert np.array_equal(picture, np.concatenate([plane.ravel() for plane in to_i420(sample)]))


def test_depth_on_1_26_is_exact(tree: str, rgbd: Recording):
    out = subprocess.run([*COMMAND, *f"realsensesrc stream=depth recording-location={tree} real-time=false ! fdsink".split()],
                         check=True, capture_output=True).stdout
    assert np.array_equal(np.frombuffer(out, "<u2").reshape(-1, 240, 320), np.stack(rgbd.samples["depth"]))
