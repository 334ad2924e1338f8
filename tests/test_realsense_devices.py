"""GStreamer's tools show the plugin and its device provider."""

from bed.bed import Programs


def test_the_device_monitor_lists_no_camera_if_there_is_none(programs: Programs):
    monitor = programs.run("monitor", ["gst-device-monitor-1.0", "Video/Source"])
    monitor.wait("the end of the process", lambda: not monitor.running(), 10)
    assert monitor.popen.returncode == 0, monitor.tail()
    assert not [e for e in monitor.of("text") if "RealSense" in e["text"]]


def test_the_device_monitor_watches_for_cameras(programs: Programs):
    monitor = programs.run("monitor", ["gst-device-monitor-1.0", "--follow", "Video/Source"])
    monitor.wait("the start of monitoring", lambda: monitor.of("text", text="Monitoring devices, waiting for devices to be removed or new "
                                                                    "devices to be added..."))
    assert monitor.running()


def test_gst_inspect_describes_the_plugin(programs: Programs):
    inspect = programs.run("inspect", ["gst-inspect-1.0", "realsense"])
    inspect.wait("the end of the process", lambda: not inspect.running(), 10)
    assert inspect.popen.returncode == 0, inspect.tail()
    text = "\n".join(e["text"] for e in inspect.of("text"))
    assert "realsensesrc" in text and "realsensedeviceprovider" in text and "MPL" in text
