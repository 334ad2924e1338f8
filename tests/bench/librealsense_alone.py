#!/usr/bin/python3
"""What librealsense itself costs: plays a recording in real time and gives every frame back at once.

    librealsense_alone.py RECORDING WARM_UP SECONDS      prints one JSON line: CPU in percent of a core, frames a second
"""

import ctypes
import json
import sys
import time

LIBRARY = ctypes.CDLL("librealsense2.so")
WAIT_MS = 1000


def call(name: str, *arguments: object, result: type = ctypes.c_void_p) -> object:
    """Calls a function of the library, whose last parameter is where it puts an error."""
    function, error = getattr(LIBRARY, name), ctypes.c_void_p()
    function.restype = result
    value = function(*arguments, ctypes.byref(error))
    if error:
        words = LIBRARY.rs2_get_error_message
        words.restype = ctypes.c_char_p
        sys.exit(f"{name}: {words(error).decode()}")
    return value


def start(recording: str) -> ctypes.c_void_p:
    version = call("rs2_get_api_version", result=ctypes.c_int)
    context = ctypes.c_void_p(call("rs2_create_context", version))
    config = ctypes.c_void_p(call("rs2_create_config"))
    call("rs2_config_enable_device_from_file_repeat_option", config, recording.encode(), 0, result=None)
    pipeline = ctypes.c_void_p(call("rs2_create_pipeline", context))
    call("rs2_pipeline_start_with_config", pipeline, config)
    return pipeline


def play(pipeline: ctypes.c_void_p, seconds: float) -> int:
    """How many frames came."""
    frames, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        frame = ctypes.c_void_p()
        if call("rs2_pipeline_try_wait_for_frames", pipeline, ctypes.byref(frame), WAIT_MS, result=ctypes.c_int):
            LIBRARY.rs2_release_frame(frame)
            frames += 1
    return frames


def main() -> None:
    recording, warm_up, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    pipeline = start(recording)
    play(pipeline, warm_up)
    used, began = time.process_time(), time.monotonic()
    frames = play(pipeline, seconds)
    passed = time.monotonic() - began
    print(json.dumps({"event": "alone", "percent": 100 * (time.process_time() - used) / passed, "rate": frames / passed}), flush=True)
    call("rs2_pipeline_stop", pipeline, result=None)


if __name__ == "__main__":
    main()
