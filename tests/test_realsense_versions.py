"""The tests that are imported here run again with a later librealsense.

Each version of the library has its own soname, so a plugin file loads one of them only. Builds for the two versions differ in
this name alone, so it is sufficient to replace it in the plugin file.
"""

import pathlib
import re
import shutil
import subprocess

import pytest

from bed.bed import LIBREALSENSE, RELEASE, Programs
from test_realsense_depth import (  # noqa: F401
    test_decimation_reduces_the_size,
    test_depth_is_aligned_to_color,
    test_depth_is_colorized,
    test_threshold_clears_values_outside_its_range,
    wall,
)
from test_realsense_errors import (  # noqa: F401
    test_a_damaged_recording_is_an_error,
    test_a_missing_camera_is_an_error,
    test_a_missing_recording_is_an_error,
    test_an_unknown_serial_number_is_an_error,
    test_impossible_caps_are_an_error,
)
from test_realsense_metas import (  # noqa: F401
    test_buffers_of_color_and_depth_carry_metas,
)
from test_realsense_streams import (  # noqa: F401
    test_all_pads_deliver_every_sample_once,
    test_color_is_converted_for_encoders,
    test_motion_is_exact,
)
from test_realsense_time import (  # noqa: F401
    test_a_recording_plays_in_real_time,
    test_the_element_stops_within_a_second,
    test_timestamps_are_those_of_the_device,
    test_timestamps_continue_in_a_loop,
)

LATER = "2.57.7"


@pytest.fixture(scope="module")
def plugins(built: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the plugin, linked to the later library."""
    folder = tmp_path_factory.mktemp("later")
    plugin = pathlib.Path(shutil.copy(RELEASE / "libgstrealsense.so", folder))
    dynamic = subprocess.run(["readelf", "-d", str(plugin)], check=True, capture_output=True, text=True).stdout
    needed = re.search(r"\[(librealsense2\.so[.\d]*)\]", dynamic).group(1)
    later = f"librealsense2.so.{LATER.rpartition('.')[0]}"
    subprocess.run(["patchelf", "--replace-needed", needed, later, str(plugin)], check=True)
    return folder


@pytest.fixture
def programs(plugins: pathlib.Path, tmp_path: pathlib.Path):
    """Like `programs` in conftest.py, but with the later library."""
    library = LIBREALSENSE.with_name(LATER) / "lib"
    assert library.is_dir(), f"{library} is missing: run scripts/setup.sh test"
    started = Programs(tmp_path, plugins / "registry.bin")
    started.env |= {"GST_PLUGIN_PATH": str(plugins), "LD_LIBRARY_PATH": str(library)}
    try:
        yield started
    finally:
        started.close()


def test_the_later_library_is_loaded(programs: Programs):
    process = programs.pipeline("idle", "realsensesrc ! fakesink", "--start=")
    libraries = pathlib.Path(f"/proc/{process.pid}/maps").read_text()
    assert f"librealsense2.so.{LATER}" in libraries and "librealsense2.so.2.56" not in libraries
