#!/usr/bin/python3
"""Runs one GStreamer pipeline, tells what happens in it as JSON lines, and does what JSON lines on stdin ask.

Names in the description that mean something here:
  picture*  an appsrc that is fed bar-code pictures, live (barcode.py); its caps give size and rate
  frames*   an appsink whose I420 or GRAY8 pictures are read: one `frame` event each
  stream*   an appsink whose encoded buffers are told: one `unit` event each
  kept*      an appsink whose buffers are kept: the bytes in --kept-folder, times and metas in one `buffer` event each
  encoder*  its output frames, its key frames and the key frames asked of it are counted
  room*     with --each-pad, every pad that it gains gets a branch of its own

Events: frame, unit, buffer, pad, bus, state, signal, reply. Python 3.9 and the system's gi suffice.
"""

import argparse
import ctypes
import json
import os
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, GObject, Gst, GstApp, GstVideo  # noqa: E402, F401 (GstApp gives appsrc its methods)

import numpy as np  # noqa: E402

import barcode  # noqa: E402

_out = threading.Lock()


def tell(event, **fields):
    """One JSON line out."""
    line = json.dumps({"event": event, "t": time.time(), **fields}, ensure_ascii=False)
    with _out:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def plain(value):
    """A GObject value as JSON can carry it."""
    if isinstance(value, Gst.Structure):
        return {"name": value.get_name(), "text": value.to_string(), **fields_of(value)}
    if hasattr(value, "value_nick"):
        return value.value_nick
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, (Gst.ValueArray, Gst.ValueList)):
        return [plain(value[i]) for i in range(len(value))]
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.to_string() if hasattr(value, "to_string") else str(value)


def fields_of(structure):
    fields = {}
    for i in range(structure.n_fields()):
        name = structure.nth_field_name(i)
        try:
            fields[name] = plain(structure.get_value(name))
        except TypeError:
            fields[name] = None
    return fields


class Feeder:
    """Feeds an appsrc with bar-code pictures at the rate of its caps, in real time."""

    def __init__(self, element, options):
        caps = element.get_property("caps").get_structure(0)
        _, rate, over = caps.get_fraction("framerate")
        self.element, self.step, self.unpaced = element, over / rate, options.unpaced
        self.pictures = options.pictures or float("inf")
        self.painter = barcode.Painter(caps.get_value("width"), caps.get_value("height"), options.source)
        self.running = True
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        due = time.monotonic()
        while self.running and self.painter.counter < self.pictures:
            if not self.unpaced and self.element.get_state(0).state != Gst.State.PLAYING:
                time.sleep(self.step)  # as a camera, it takes no pictures meanwhile
                due = time.monotonic()
                continue
            buffer = Gst.Buffer.new_wrapped(self.painter.paint())
            buffer.duration = int(self.step * Gst.SECOND)
            if self.unpaced:
                buffer.pts = (self.painter.counter - 1) * buffer.duration
            if self.element.push_buffer(buffer) not in (Gst.FlowReturn.OK, Gst.FlowReturn.FLUSHING):
                return
            due = max(due + self.step, time.monotonic() - 1)
            if not self.unpaced:
                time.sleep(max(0.0, due - time.monotonic()))
        self.element.end_of_stream()


class Counter:
    """Counts what an encoder does."""

    def __init__(self, element):
        self.frames = self.keyframes = self.requests = 0
        pad = element.get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.BUFFER, self.buffer)
        pad.add_probe(Gst.PadProbeType.EVENT_UPSTREAM, self.event)

    def buffer(self, _pad, info):
        self.frames += 1
        self.keyframes += not info.get_buffer().has_flags(Gst.BufferFlags.DELTA_UNIT)
        return Gst.PadProbeReturn.OK

    def event(self, _pad, info):
        structure = info.get_event().get_structure()
        self.requests += structure is not None and structure.get_name() == "GstForceKeyUnit"
        return Gst.PadProbeReturn.OK


def read_frame(sink, label):
    sample = sink.emit("pull-sample")
    if sample is None:
        return Gst.FlowReturn.EOS
    buffer, caps = sample.get_buffer(), sample.get_caps().get_structure(0)
    width, height = caps.get_value("width"), caps.get_value("height")
    ok, memory = buffer.map(Gst.MapFlags.READ)
    if not ok:
        return Gst.FlowReturn.ERROR
    stride = (width + 3) // 4 * 4
    luma = np.frombuffer(memory.data, np.uint8, count=stride * height).reshape(height, stride)[:, :width]
    mark = barcode.read(luma)
    buffer.unmap(memory)
    fields = {} if mark is None else {**mark._asdict(), "latency_ms": barcode.age_ms(mark)}
    tell("frame", pad=label, width=width, height=height, pts=buffer.pts, **fields)
    return Gst.FlowReturn.OK


def read_unit(sink, label):
    sample = sink.emit("pull-sample")
    if sample is None:
        return Gst.FlowReturn.EOS
    buffer = sample.get_buffer()
    tell("unit", pad=label, size=buffer.get_size(), pts=buffer.pts, dts=buffer.dts, caps=sample.get_caps().to_string(),
         key=not buffer.has_flags(Gst.BufferFlags.DELTA_UNIT), discontinuity=buffer.has_flags(Gst.BufferFlags.DISCONT))
    return Gst.FlowReturn.OK


class Keeper:
    """Keeps the buffers of an appsink: their bytes one after another in a file, the rest as `buffer` events."""

    def __init__(self, sink, options):
        self.sink, self.metas, self.size = sink, options.meta, 0
        self.file = open(f"{options.kept_folder}/{sink.get_name()}.raw", "wb", buffering=0)
        sink.set_property("emit-signals", True)
        sink.connect("new-sample", self.keep)

    def keep(self, sink):
        arrived = sink.get_clock().get_time() - sink.get_base_time()
        sample = sink.emit("pull-sample")
        if sample is None:
            return Gst.FlowReturn.EOS
        buffer = sample.get_buffer()
        self.file.write(buffer.extract_dup(0, buffer.get_size()))
        video, reference = GstVideo.buffer_get_video_meta(buffer), buffer.get_reference_timestamp_meta(None)
        tell("buffer", pad=sink.get_name(), at=self.size, size=buffer.get_size(), caps=sample.get_caps().to_string(), pts=buffer.pts,
             duration=buffer.duration, number=buffer.offset, discontinuity=buffer.has_flags(Gst.BufferFlags.DISCONT),
             arrived=arrived, stride=video and video.stride[0],
             reference=reference and {"caps": reference.reference.to_string(), "ns": reference.timestamp},
             metas={name: fields_of(meta.get_structure()) for name in self.metas if (meta := buffer.get_custom_meta(name))})
        self.size += buffer.get_size()
        return Gst.FlowReturn.OK


class Program:
    """The pipeline and its commands."""

    def __init__(self, options):
        self.options = options
        self.pipeline = Gst.parse_launch(options.description)
        if not isinstance(self.pipeline, Gst.Pipeline):
            element, self.pipeline = self.pipeline, Gst.Pipeline.new(None)
            self.pipeline.add(element)
        self.feeders, self.keepers, self.counters, self.branches = [], [], {}, {}
        self.loop = GLib.MainLoop()
        self.adopt(self.pipeline)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.message)

    def adopt(self, within, label=None):
        """Finds the elements whose names mean something."""
        elements = within.iterate_elements()
        found = []
        while True:
            result, element = elements.next()
            if result != Gst.IteratorResult.OK:
                break
            found.append(element)
        for element in found:
            name = element.get_name()
            if name.startswith("picture"):
                self.feeders.append(Feeder(element, self.options))
            elif name.startswith(("frames", "stream")):
                element.set_property("emit-signals", True)
                element.connect("new-sample", read_frame if name.startswith("frames") else read_unit, label or name)
            elif name.startswith("kept"):
                self.keepers.append(Keeper(element, self.options))
            elif name.startswith("encoder"):
                self.counters[name] = Counter(element)
            elif name.startswith("room"):
                self.watch_room(element)

    def watch_room(self, element):
        element.connect("pad-added", self.pad_added)
        element.connect("pad-removed", self.pad_removed)
        handlers = {
            "receiver-added": lambda _e, peer, inner: tell("signal", name="receiver-added", id=peer, detail=plain(inner)),
            "receiver-removed": lambda _e, peer, reason: tell("signal", name="receiver-removed", id=peer, detail=reason),
            "data": lambda _e, peer, label, data: tell(
                "signal", name="data", id=peer, detail=label, text=data.get_data().decode()),
            "authorize-receiver": self.authorize,
        }
        for signal in handlers.keys() & set(GObject.signal_list_names(type(element))):
            element.connect(signal, handlers[signal])

    def authorize(self, _element, peer, meta):
        tell("signal", name="authorize-receiver", id=peer, detail=meta)
        return not {peer, f"{peer}:{meta}"} & set(self.options.refuse)

    def pad_added(self, element, pad):
        name = pad.get_name() if element.get_name() == "room" else f"{element.get_name()}.{pad.get_name()}"
        tell("pad", name=name, removed=False)
        if not self.options.each_pad or pad.direction != Gst.PadDirection.SRC:
            return
        branch = Gst.parse_bin_from_description(f"queue name=entry ! {self.options.each_pad}", False)
        branch.add_pad(Gst.GhostPad.new("sink", branch.get_by_name("entry").get_static_pad("sink")))
        self.pipeline.add(branch)
        self.adopt(branch, label=name)
        branch.sync_state_with_parent()
        pad.link(branch.get_static_pad("sink"))  # raises where it can't
        self.branches[pad] = branch

    def pad_removed(self, _element, pad):
        tell("pad", name=pad.get_name(), removed=True)
        branch = self.branches.pop(pad, None)
        if branch:
            branch.set_state(Gst.State.NULL)
            self.pipeline.remove(branch)

    def message(self, _bus, message):
        kind, source = message.type, message.src.get_name() if message.src else ""
        if kind == Gst.MessageType.STATE_CHANGED:
            if message.src == self.pipeline:
                tell("state", new=message.parse_state_changed()[1].value_nick)
        elif kind in (Gst.MessageType.ERROR, Gst.MessageType.WARNING):
            error, debug = message.parse_error() if kind == Gst.MessageType.ERROR else message.parse_warning()
            name = "error" if kind == Gst.MessageType.ERROR else "warning"
            tell("bus", kind=name, source=source, message=error.message, debug=debug)
            if name == "error" and not self.options.keep_on_error:
                self.loop.quit()
        elif kind == Gst.MessageType.EOS:
            tell("bus", kind="eos", source=source)
        elif kind == Gst.MessageType.LATENCY:
            self.pipeline.recalculate_latency()
        elif kind == Gst.MessageType.ELEMENT:
            tell("bus", kind="element", source=source, **plain(message.get_structure()))

    def command(self, request):
        """Does one command; the result goes out as a `reply`."""
        do, element = request["do"], self.pipeline.get_by_name(request["element"]) if "element" in request else None
        if do == "state":
            change = self.pipeline.set_state(getattr(Gst.State, request["value"]))
            return change.value_nick
        if do == "get":
            return plain(element.get_property(request["property"]))
        if do == "set":
            Gst.util_set_object_arg(element, request["property"], str(request["value"]))
            return None
        if do == "emit":
            arguments = [GLib.Bytes.new(a["bytes"].encode()) if isinstance(a, dict) else a for a in request.get("arguments", [])]
            return plain(element.emit(request["signal"], *arguments))
        if do == "eos":
            return self.pipeline.send_event(Gst.Event.new_eos())
        if do == "seek":
            return self.pipeline.seek_simple(Gst.Format.TIME, Gst.SeekFlags.FLUSH, request.get("to", 0))
        if do == "clock":  # the clock that the pipeline takes when it plays again; monotonic is the usual one
            kind = getattr(Gst.ClockType, request["kind"].upper())
            clock = GObject.new(Gst.SystemClock, name=request["kind"], clock_type=kind)
            self.pipeline.use_clock(clock)
            return self.pipeline.set_clock(clock)
        if do == "set-latency":
            return self.pipeline.set_latency(request["ms"] * Gst.MSECOND)
        if do == "replace":  # an element of a stopped pipeline by another one, linked as it was
            return self.replace(element, request["description"])
        if do == "latency":
            query = Gst.Query.new_latency()
            return query.parse_latency() if self.pipeline.query(query) else None
        if do == "counts":
            return {name: vars(c) for name, c in self.counters.items()}
        if do == "usage":
            return usage()
        if do == "add":  # a branch more, while running: its last element is linked to a request pad of `element`
            return self.add_branch(request["description"], element)
        if do == "quit":
            GLib.idle_add(self.loop.quit)
            return None
        raise ValueError(f"no such command: {do}")

    def replace(self, element, description):
        before, after = (element.get_static_pad(name).get_peer() for name in ("sink", "src"))
        before.unlink(element.get_static_pad("sink"))
        element.get_static_pad("src").unlink(after)
        element.set_state(Gst.State.NULL)
        self.pipeline.remove(element)
        bin_ = Gst.parse_bin_from_description(description, True)
        self.pipeline.add(bin_)
        return [before.link(bin_.get_static_pad("sink")).value_nick, bin_.get_static_pad("src").link(after).value_nick]

    def add_branch(self, description, element):
        branch = Gst.parse_bin_from_description(description, True)
        self.pipeline.add(branch)
        self.adopt(branch)
        pad = element.request_pad_simple("video_%u")
        result = branch.get_static_pad("src").link(pad)
        branch.sync_state_with_parent()
        for feeder in self.feeders:
            if not feeder.thread.is_alive():
                feeder.thread.start()
        return {"pad": pad.get_name(), "link": result.value_nick}

    def read_commands(self):
        for line in sys.stdin:
            request = json.loads(line)
            try:
                tell("reply", id=request["id"], value=self.command(request))
            except Exception as error:  # the test that asked is told
                tell("reply", id=request["id"], failure=repr(error))
        GLib.idle_add(self.loop.quit)  # whoever steers us is gone

    def run(self):
        tell("ready", pid=os.getpid(), gstreamer=Gst.version_string())
        if self.options.start:
            self.pipeline.set_state(getattr(Gst.State, self.options.start))
        for feeder in self.feeders:
            feeder.thread.start()
        threading.Thread(target=self.read_commands, daemon=True).start()
        for number in (2, 15):
            GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, self.loop.quit)
        self.loop.run()
        for feeder in self.feeders:
            feeder.running = False
        self.pipeline.set_state(Gst.State.NULL)
        tell("end")
        sys.stdout.flush()
        os._exit(0)


def usage():
    """What this process holds, after giving free memory back."""
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"threads": len(os.listdir("/proc/self/task")), "descriptors": len(os.listdir("/proc/self/fd")),
            "resident": resident, "cpu_s": time.process_time()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("description")
    parser.add_argument("--source", type=int, default=1, help="the number drawn in the picture that says who drew it")
    parser.add_argument("--each-pad", help="a bin description for each pad that the room* element gains")
    parser.add_argument("--start", default="PLAYING", help="the state to start in; empty: stay in NULL")
    parser.add_argument("--unpaced", action="store_true", help="feed pictures as fast as they are taken")
    parser.add_argument("--pictures", type=int, help="end the stream after so many")
    parser.add_argument("--refuse", action="append", default=[], help="the id of a receiver that authorize-receiver refuses, or id:meta to refuse it with this meta only")
    parser.add_argument("--kept-folder", default=".", help="where the bytes of kept* go")
    parser.add_argument("--meta", action="append", default=[], help="a custom meta that kept* tells")
    parser.add_argument("--keep-on-error", action="store_true", help="an error on the bus does not end the program")
    options = parser.parse_args()
    Gst.init(None)
    Program(options).run()


if __name__ == "__main__":
    main()
