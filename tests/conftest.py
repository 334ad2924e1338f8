"""Fixtures: a test bed for each test, and the checks that everything is built."""

import pathlib
import shutil
import subprocess

import pytest

from bed import recording
from bed.bed import RELEASE, Bed, Programs, plugin_environment
from bed.network import Network


@pytest.fixture(scope="session")
def built() -> pathlib.Path:
    """The folder of the release build, which has to exist."""
    for name in ("room-signaling", "libgstroomwebrtc.so", "libgstrealsense.so"):
        assert (RELEASE / name).exists(), f"{RELEASE / name} is missing: run scripts/test.sh, or cargo build --release"
    for tool in ("ip", "chromium", "gst-launch-1.0", "gst-inspect-1.0"):
        assert shutil.which(tool), f"{tool} is missing: run scripts/setup.sh test"
    return RELEASE


@pytest.fixture(scope="session")
def registry(built: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A GStreamer registry for this run, filled once."""
    path = tmp_path_factory.mktemp("gstreamer") / "registry.bin"
    subprocess.run(["gst-inspect-1.0", "roomwebrtcsink"], check=True, capture_output=True,
                   env={"PATH": "/usr/bin:/bin", **plugin_environment(built, path)})
    return path


@pytest.fixture
def empty_bed(registry: pathlib.Path, tmp_path: pathlib.Path):
    """A bed without a server."""
    with Network() as network:
        bed = Bed(network, tmp_path, registry)
        try:
            yield bed
        finally:
            bed.close()


@pytest.fixture
def programs(registry: pathlib.Path, tmp_path: pathlib.Path):
    """Programs without a network."""
    started = Programs(tmp_path, registry)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture(scope="session")
def rgbd(built: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> recording.Recording:
    """Two seconds of all streams of a RealSense camera."""
    return recording.make(
        tmp_path_factory.mktemp("realsense") / "rgbd.bag", 2, recording.color_yuyv(marked=True), recording.depth_slope(),
        recording.infrared(1), recording.infrared(2), recording.motion("gyro", 200), recording.motion("accel", 100))


@pytest.fixture
def bed(empty_bed: Bed) -> Bed:
    """A bed with a running server."""
    empty_bed.start_server()
    return empty_bed
