"""The scripts in scripts/ and pipelines/ explain themselves, and refuse options that they do not have."""

import pathlib
import subprocess

import pytest

from bed.bed import ROOT

# Without the files that scripts source, and the one that meson calls.
OTHERS = {ROOT / "scripts/common.sh", ROOT / "scripts/meson-cargo.sh"}
SCRIPTS = sorted({*ROOT.glob("scripts/*.sh"), *ROOT.glob("pipelines/*.sh")} - OTHERS)
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)


def run(script: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(script), *arguments], capture_output=True, text=True, timeout=30)


@each_script
def test_help_describes_a_script_with_an_example(script: pathlib.Path):
    done = run(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    description, *lines = done.stdout.splitlines()
    assert description[0].isupper()
    assert any(line.startswith("  ") and script.name in line for line in lines), "there is no example"
    assert "set -eu" not in done.stdout, "the help must end before the code"


@each_script
def test_an_unknown_option_is_refused(script: pathlib.Path):
    done = run(script, "--no-such-option")
    assert done.returncode != 0 and done.stdout == ""
    assert done.stderr.startswith(f"{script.name}: ") and "--no-such-option" in done.stderr
