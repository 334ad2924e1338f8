"""Fixtures: a bed for each test, and what must be built before any runs."""

import pathlib
import shutil
import subprocess

import pytest

from bed.bed import RELEASE, Bed
from bed.network import Network


@pytest.fixture(scope="session")
def built() -> pathlib.Path:
    """The release build is there."""
    for name in ("room-signaling", "libgstroomwebrtc.so"):
        assert (RELEASE / name).exists(), f"{RELEASE / name} is missing: run scripts/test.sh, or cargo build --release"
    for tool in ("ip", "chromium", "gst-launch-1.0", "gst-inspect-1.0"):
        assert shutil.which(tool), f"{tool} is missing: run scripts/setup.sh test"
    return RELEASE


@pytest.fixture(scope="session")
def registry(built: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A GStreamer registry of this run's own, filled once."""
    path = tmp_path_factory.mktemp("gstreamer") / "registry.bin"
    subprocess.run(["gst-inspect-1.0", "roomwebrtcsink"], check=True, capture_output=True,
                   env={"PATH": "/usr/bin:/bin", "GST_PLUGIN_PATH": str(built), "GST_REGISTRY": str(path)})
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
def bed(empty_bed: Bed) -> Bed:
    """A bed with the server running."""
    empty_bed.start_server()
    return empty_bed
