#!/usr/bin/python3
"""What realsensesrc costs beside reading the same pictures from a plain file.

1280x720, 30 frames/s, YUYV to I420, from a recording (uncompressed) and from a file of raw video, both in the page cache,
both paced by the clock, in many short turns: what the plain pipeline takes differs by a quarter from one start to the
next, so the ratio is that of all turns together. Goals: at most 1.3 times the CPU of `filesrc ! rawvideoparse !
videoconvert`; 99 of 100 buffers leave the element within 5 ms of librealsense's callback. Told beside: both without
conversion, and librealsense alone, which plays the recording for nobody. `floor_ratio` is what the best element could
come to: librealsense alone and the conversion as the plain pipeline has it, without a thread to hand frames to or a
pipeline for them.
Needs a release build and `cargo build --workspace --example record --features gst-plugin-realsense/software-device`.
"""

import collections.abc
import pathlib
import re
import statistics
import time

import rig
from bed import recording
from bed.bed import SYSTEM_PYTHON, Programs

WIDTH, HEIGHT, RATE = 1280, 720, 30
I420 = "video/x-raw,format=I420"
SINK = "fakesink name=sink sync=true"
GOAL_RATIO, GOAL_LATENCY_MS = 1.3, 5
# A pipeline has this long to get going before it is measured.
WARM_UP = 1
# So long are delays measured, in one go.
LATENCY_SECONDS = 10


def pictures(count: int) -> collections.abc.Iterator[bytes]:
    """A second of pictures, again and again."""
    stream = recording.color_yuyv(WIDTH, HEIGHT, RATE)
    drawn = [stream.draw(n).tobytes() for n in range(RATE)]
    return (drawn[n % RATE] for n in range(count))


def share(programs: Programs, description: str, seconds: float) -> float:
    """The CPU of a pipeline that plays this, in percent of a core."""
    process = programs.pipeline("player", description)
    process.wait_for("state", new="playing")
    time.sleep(WARM_UP)
    rendered, before, began = shown(process), process.ask("usage")["cpu_s"], time.monotonic()
    time.sleep(seconds)
    used, passed = process.ask("usage")["cpu_s"] - before, time.monotonic() - began
    frames = shown(process) - rendered
    process.stop()
    if abs(frames / passed - RATE) > 0.1 * RATE + 1 / passed:
        raise ValueError(f"{frames / passed:.1f} frames/s instead of {RATE}: {description}")
    return 100 * used / passed


def alone(programs: Programs, recorded: pathlib.Path, seconds: float) -> float:
    """The CPU of librealsense that plays this for nobody."""
    program = pathlib.Path(__file__).with_name("librealsense_alone.py")
    process = programs.run("alone", [SYSTEM_PYTHON, str(program), str(recorded), str(WARM_UP), str(seconds)])
    told = process.wait_for("alone", timeout=seconds + 20)
    process.stop()
    return told["percent"]


def shown(process) -> int:
    return process.ask("get", element="sink", property="stats")["rendered"]


def latencies(programs: Programs, source: str, seconds: float) -> list[float]:
    """From librealsense's callback to the buffer that leaves, in ms, as the element's own log says."""
    programs.env["GST_DEBUG"] = "realsensesrc:6"
    # A sink that waits would make the frames wait.
    process = programs.pipeline("logger", f"{source} ! {I420} ! fakesink sync=false")
    process.wait_for("state", new="playing")
    time.sleep(WARM_UP + seconds)
    process.stop()
    return [int(found) / 1000 for found in re.findall(r"(\d+) µs after its arrival", process.log.read_text())][RATE * WARM_UP :]


def main() -> None:
    options = rig.arguments(__doc__.splitlines()[0], seconds=3.0, rounds=12)
    with rig.programs("libgstrealsense.so", str(recording.RECORD)) as programs:
        bag, raw = programs.logs / "color.bag", programs.logs / "color.yuyv"
        count = int((max(options.seconds, LATENCY_SECONDS) + 3 * WARM_UP) * RATE)
        recording.write(bag, pictures(count), recording.color_yuyv(WIDTH, HEIGHT, RATE), compressed=False)
        with raw.open("wb") as file:
            file.writelines(pictures(count))
        source = f"realsensesrc recording-location={bag}"
        file = f"filesrc location={raw} ! rawvideoparse format=yuy2 width={WIDTH} height={HEIGHT} framerate={RATE}/1"
        lines = {
            "room": f"{source} ! {I420} ! {SINK}",
            "plain": f"{file} ! videoconvert ! {I420} ! {SINK}",
            "unconverted": f"{source} ! {SINK}",
            "plain_unconverted": f"{file} ! {SINK}",
        }
        rounds = []
        for _ in range(options.rounds):
            rounds.append({})
            for name, line in lines.items():
                into_page_cache(raw if file in line else bag)
                rounds[-1][name] = share(programs, line, options.seconds)
            into_page_cache(bag)
            rounds[-1]["librealsense"] = alone(programs, bag, options.seconds)
        late = rig.percentiles(latencies(programs, source, LATENCY_SECONDS))
    percent = {name: statistics.mean(r[name] for r in rounds) for name in rounds[0]}
    ratio = round(percent["room"] / percent["plain"], 2)
    floor = round((percent["librealsense"] + percent["plain"] - percent["plain_unconverted"]) / percent["plain"], 2)
    percent = {name: round(share, 2) for name, share in percent.items()}
    rig.report(ratio <= GOAL_RATIO and late["p99"] < GOAL_LATENCY_MS, benchmark="realsense_cpu", percent=percent, ratio=ratio,
               floor_ratio=floor, latency_ms=late, goal_ratio=GOAL_RATIO, goal_latency_p99_ms=GOAL_LATENCY_MS)


def into_page_cache(path: pathlib.Path) -> None:
    """Before each run: some machines drop what hasn't been read for half a minute, and a disk is no part of this."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


if __name__ == "__main__":
    main()
