"""The benchmarks run and print their measurements. Their goals are not checked here, because they need a quiet machine."""

import json
import pathlib
import subprocess

import pytest

BENCHMARKS = {
    "glass_to_glass": (("--seconds", "1", "--rounds", "1"), "more_ms"),
    "join_time": (("--joins", "1"), "room_warm_ms"),
    "realsense_cpu": (("--seconds", "1", "--rounds", "1"), "ratio"),
    "sender_cpu": (("--seconds", "1", "--rounds", "1"), "room_each_further"),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_prints_its_measurements(built: pathlib.Path, name: str):
    options, figure = BENCHMARKS[name]
    program = pathlib.Path(__file__).parent / "bench" / f"{name}.py"
    done = subprocess.run([str(program), *options], capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    line = json.loads(done.stdout)
    assert (line["benchmark"], done.returncode) == (name, 0 if line["passed"] else 1)
    assert figure in line
