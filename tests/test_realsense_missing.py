"""Without librealsense, only the plugin of realsensesrc is missing."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from bed.bed import RELEASE, plugin_environment


@pytest.fixture
def plugins(built: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The plugins on a machine without librealsense: the dependency is renamed to a library that does not exist."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name in ("libgstroomwebrtc.so", "libgstrealsense.so"):
        shutil.copy(RELEASE / name, folder)
    plugin = folder / "libgstrealsense.so"
    needed = re.findall(r"\[(librealsense2\.so[.\d]*)\]",
                        subprocess.run(["readelf", "-d", str(plugin)], check=True, capture_output=True, text=True).stdout)
    assert len(needed) == 1, "the plugin must be linked to librealsense dynamically"
    subprocess.run(["patchelf", "--replace-needed", needed[0], "librealsense2.so.hidden", str(plugin)], check=True)
    return folder


def gst(plugins: pathlib.Path, *command: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **plugin_environment(plugins, plugins.parent / "registry.bin"), "LC_ALL": "C"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_other_elements_work_without_librealsense(plugins: pathlib.Path):
    assert gst(plugins, "gst-inspect-1.0", "realsensesrc").returncode != 0
    for element in ("roomwebrtcsink", "roomwebrtcsrc"):
        assert gst(plugins, "gst-inspect-1.0", element).returncode == 0
    assert gst(plugins, "gst-launch-1.0", "videotestsrc", "num-buffers=3", "!", "fakesink").returncode == 0


def test_a_missing_librealsense_looks_as_documented(plugins: pathlib.Path):
    """The symptoms are those of docs/troubleshooting.md."""
    launch = gst(plugins, "gst-launch-1.0", "realsensesrc", "!", "fakesink")
    assert launch.returncode != 0 and 'no element "realsensesrc"' in launch.stderr
    listed = gst(plugins, "gst-inspect-1.0", "-b").stdout
    assert "libgstrealsense.so" in listed and "libgstroomwebrtc.so" not in listed


def test_the_log_names_the_missing_library(plugins: pathlib.Path):
    environment = {**os.environ, **plugin_environment(plugins, plugins.parent / "other.bin"), "GST_DEBUG": "GST_PLUGIN_LOADING:4"}
    told = subprocess.run(["gst-inspect-1.0", "realsensesrc"], capture_output=True, text=True, env=environment).stderr
    assert "librealsense2.so.hidden: cannot open shared object file" in told
