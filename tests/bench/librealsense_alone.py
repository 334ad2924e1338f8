#!/usr/bin/python3
"""What librealsense itself costs: plays a recording in real time and gives every frame back at once.

    librealsense_alone.py RECORDING WARM_UP SECONDS      prints one JSON line: CPU in percent of a core
"""

import ctypes
import json
import sys
import time

LIBRARY = ctypes.CDLL("librealsense2.so")
# How much of what should have been read in a while may be missing: the library reads ahead.
SLACK = 0.2


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


def pointer(name: str, *arguments: object) -> ctypes.c_void_p:
    return ctypes.c_void_p(call(name, *arguments))


def start(recording: str) -> ctypes.c_void_p:
    """The recording as a device that plays all its streams."""
    context = pointer("rs2_create_context", call("rs2_get_api_version", result=ctypes.c_int))
    device = pointer("rs2_context_add_device", context, recording.encode())
    call("rs2_playback_device_set_real_time", device, 1, result=None)
    sensors = pointer("rs2_query_sensors", device)
    for index in range(call("rs2_get_sensors_count", sensors, result=ctypes.c_int)):
        sensor = pointer("rs2_create_sensor", sensors, index)
        profiles = pointer("rs2_get_stream_profiles", sensor)
        count = call("rs2_get_stream_profiles_count", profiles, result=ctypes.c_int)
        if count:
            opened = (ctypes.c_void_p * count)(*(call("rs2_get_stream_profile", profiles, n) for n in range(count)))
            call("rs2_open_multiple", sensor, opened, count, result=None)
            # The callback gives the frame back itself: no Python runs while it plays.
            call("rs2_start", sensor, LIBRARY.rs2_release_frame, None, result=None)
    return device


def position(device: ctypes.c_void_p) -> float:
    """How far it has read, in seconds."""
    return call("rs2_playback_get_position", device, result=ctypes.c_ulonglong) / 1e9


def main() -> None:
    recording, warm_up, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    device = start(recording)
    time.sleep(warm_up)
    at, used, began = position(device), time.process_time(), time.monotonic()
    time.sleep(seconds)
    used, passed, read = time.process_time() - used, time.monotonic() - began, position(device) - at
    if abs(read - passed) > SLACK:
        sys.exit(f"{read:.1f} s of the recording were read in {passed:.1f} s")
    print(json.dumps({"event": "alone", "percent": 100 * used / passed}), flush=True)


if __name__ == "__main__":
    main()
