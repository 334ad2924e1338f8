"""scripts/setup-librealsense.sh uses an installed SDK if it is new enough; otherwise it makes a library, once."""

import os
import pathlib
import subprocess

import pytest

from bed.bed import LIBREALSENSE, ROOT

SCRIPT = ROOT / "scripts" / "setup-librealsense.sh"


def setup(sdk: pathlib.Path | None, *arguments: str) -> subprocess.CompletedProcess:
    """Runs the script in an environment in which pkg-config finds only the library in `sdk`."""
    hidden = {"PKG_CONFIG_PATH": "", "PKG_CONFIG_LIBDIR": str(sdk or "/nowhere"), "LD_LIBRARY_PATH": ""}
    return subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True, env={**os.environ, **hidden})


@pytest.fixture
def sdk(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> pathlib.Path:
    """A folder with the pkg-config file of an SDK of this version."""
    (tmp_path / "realsense2.pc").write_text(f"Name: realsense2\nDescription: SDK\nVersion: {request.param}\nlibdir=/opt/sdk/lib\n")
    return tmp_path


@pytest.mark.parametrize("sdk", ["2.56.5", "2.58.1"], indirect=True)
def test_an_installed_sdk_is_used(sdk: pathlib.Path):
    done = setup(sdk)
    assert (done.returncode, done.stdout) == (0, ""), "no variable needs to be set"
    assert "is installed in /opt/sdk/lib" in done.stderr


@pytest.mark.parametrize("sdk", ["2.54.2"], indirect=True)
def test_an_old_sdk_is_not_used(sdk: pathlib.Path):
    assert str(LIBREALSENSE / "lib") in setup(sdk).stdout


def test_the_output_sets_the_environment_of_builds():
    done = setup(None)
    assert done.returncode == 0, done.stderr
    version = subprocess.run(["bash", "-c", f"{done.stdout}\npkg-config --modversion realsense2 && ls $LD_LIBRARY_PATH"],
                             check=True, capture_output=True, text=True).stdout
    assert version.startswith("2.56.5\n") and "librealsense2.so.2.56" in version


def test_an_unknown_version_is_refused_with_the_known_ones():
    done = setup(None, "2.11.0")
    assert done.returncode != 0 and "2.56.5" in done.stderr and "2.57.7" in done.stderr
