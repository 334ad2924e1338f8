#!/usr/bin/python3
"""A plain webrtcbin peer, steered by JSON lines: what the elements are measured beside.

As a sender (`--send DESCRIPTION`, which ends in an encoder named `encoder`) it makes an offer for each receiver, as a
competent user of webrtcbin would: codec preferences, a gate until connected, a keyframe then, NACK on. As a receiver it
answers offers, each in a pipeline of its own that decodes with `--decode`.

Commands: offer, take, answer, candidate, drop, usage, first. Events: sdp, candidate, connected, frame, reply.
"""

import argparse
import json
import os
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bed" / "programs"))

import gi  # noqa: E402

for name in ("GstSdp", "GstVideo", "GstWebRTC"):
    gi.require_version(name, "1.0")

from pipeline import Feeder, Gst, read_frame, tell, usage  # noqa: E402
from gi.repository import GLib, GstSdp, GstVideo, GstWebRTC  # noqa: E402

PAYLOAD_TYPE = 96
# The ICE agent comes with a floating reference: its wrapper would take webrtcbin's with it when it goes.
_kept = []


def make_webrtcbin(pipeline, peer, latency=None):
    """A webrtcbin in `pipeline` that tells its candidates and its connection."""
    webrtcbin = Gst.ElementFactory.make("webrtcbin", None)
    webrtcbin.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
    if latency is not None:
        webrtcbin.set_property("latency", latency)
    pipeline.add(webrtcbin)
    ice = webrtcbin.get_property("ice-agent")
    _kept.append(ice)
    ice.ref()
    ice.get_property("agent").set_property("upnp", False)
    webrtcbin.connect("on-ice-candidate", lambda _w, line, text: tell("candidate", peer=peer, line=line, text=text))
    return webrtcbin


def describe(webrtcbin, kind, peer):
    """Makes an offer or an answer, sets and tells it."""
    def made(promise, *_):
        reply = promise.get_reply()
        description = reply.get_value(kind)
        webrtcbin.emit("set-local-description", description, Gst.Promise.new())
        tell("sdp", peer=peer, kind=kind, sdp=description.sdp.as_text())
    webrtcbin.emit(f"create-{kind}", None, Gst.Promise.new_with_change_func(made))


def set_remote(webrtcbin, kind, text, then=lambda: None):
    _, message = GstSdp.SDPMessage.new_from_text(text)
    description = GstWebRTC.WebRTCSessionDescription.new(kind, message)
    webrtcbin.emit("set-remote-description", description, Gst.Promise.new_with_change_func(lambda *_: then()))


class Sender:
    """One encoder, a branch with a webrtcbin for each receiver."""

    def __init__(self, description):
        self.pipeline = Gst.parse_launch(
            f"{description} ! video/x-h264,profile=constrained-baseline,stream-format=byte-stream ! tee name=encoded allow-not-linked=true")
        self.tee = self.pipeline.get_by_name("encoded")
        self.peers = {}
        picture = self.pipeline.get_by_name("picture")
        self.pipeline.set_state(Gst.State.PLAYING)
        if picture:
            Feeder(picture, argparse.Namespace(unpaced=False, pictures=None, source=1)).thread.start()

    def offer(self, peer):
        ssrc = 1000 + len(self.peers)
        branch = [Gst.ElementFactory.make("queue", None), Gst.ElementFactory.make("rtph264pay", None)]
        queue, payloader = branch
        for name, value in (("pt", PAYLOAD_TYPE), ("ssrc", ssrc), ("config-interval", -1)):
            payloader.set_property(name, value)
        Gst.util_set_object_arg(payloader, "aggregate-mode", "zero-latency")
        for element in branch:
            self.pipeline.add(element)
        queue.link(payloader)
        webrtcbin = make_webrtcbin(self.pipeline, peer)
        pad = webrtcbin.request_pad_simple("sink_%u")
        transceiver = pad.get_property("transceiver")
        transceiver.set_property("do-nack", True)
        transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
        transceiver.set_property("codec-preferences", Gst.Caps.from_string(
            f"application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload={PAYLOAD_TYPE},"
            f"packetization-mode=(string)1,ssrc=(uint){ssrc}"))
        payloader.get_static_pad("src").link(pad)
        for element in (webrtcbin, payloader, queue):
            element.sync_state_with_parent()
        tap = self.tee.request_pad_simple("src_%u")
        opened = self.gate(tap, webrtcbin, peer)
        tap.link(queue.get_static_pad("sink"))
        self.peers[peer] = (webrtcbin, tap, [queue, payloader, webrtcbin], opened)
        describe(webrtcbin, "offer", peer)

    def gate(self, tap, webrtcbin, peer):
        opened = threading.Event()

        def unit(_pad, info):
            if not opened.is_set() or info.get_buffer().has_flags(Gst.BufferFlags.DELTA_UNIT):
                return Gst.PadProbeReturn.DROP
            return Gst.PadProbeReturn.REMOVE

        def state(webrtcbin, _spec):
            if webrtcbin.get_property("connection-state") == GstWebRTC.WebRTCPeerConnectionState.CONNECTED:
                opened.set()
                tell("connected", peer=peer)
                wish = GstVideo.video_event_new_upstream_force_key_unit(Gst.CLOCK_TIME_NONE, True, 0)
                self.pipeline.get_by_name("encoder").get_static_pad("src").send_event(wish)

        tap.add_probe(Gst.PadProbeType.BUFFER, unit)
        webrtcbin.connect("notify::connection-state", state)
        return opened

    def drop(self, peer):
        _, tap, elements, _ = self.peers.pop(peer)
        done = threading.Event()

        def idle(pad, _info):
            pad.unlink(pad.get_peer())
            done.set()
            return Gst.PadProbeReturn.REMOVE

        tap.add_probe(Gst.PadProbeType.IDLE, idle)
        done.wait(5)
        for element in elements:
            element.set_state(Gst.State.NULL)
            self.pipeline.remove(element)
        self.tee.release_request_pad(tap)

    def webrtcbin(self, peer):
        return self.peers[peer][0]


class Receivers:
    """A pipeline for each offer that is taken."""

    def __init__(self, decode, latency):
        self.decode, self.latency, self.peers = decode, latency, {}

    def take(self, peer, sdp):
        pipeline = Gst.Pipeline.new(None)
        webrtcbin = make_webrtcbin(pipeline, peer, self.latency)
        webrtcbin.connect("pad-added", lambda _w, pad: self.pad(pipeline, pad, peer))
        webrtcbin.connect("on-new-transceiver", lambda _w, transceiver: transceiver.set_property("do-nack", True))
        pipeline.set_state(Gst.State.PLAYING)
        self.peers[peer] = (webrtcbin, pipeline)
        set_remote(webrtcbin, GstWebRTC.WebRTCSDPType.OFFER, sdp, lambda: describe(webrtcbin, "answer", peer))

    def pad(self, pipeline, pad, peer):
        if pad.direction != Gst.PadDirection.SRC:
            return
        branch = Gst.parse_bin_from_description(f"rtph264depay ! {self.decode}", True)
        watch_frames(branch, peer)
        pipeline.add(branch)
        branch.sync_state_with_parent()
        pad.link(branch.get_static_pad("sink"))

    def drop(self, peer):
        self.peers.pop(peer)[1].set_state(Gst.State.NULL)

    def webrtcbin(self, peer):
        return self.peers[peer][0]


def watch_frames(within, label):
    """Tells what an appsink named `frames` gets, and only the first buffer of a fakesink named `first`."""
    frames, first = within.get_by_name("frames"), within.get_by_name("first")
    if frames:
        frames.set_property("emit-signals", True)
        frames.connect("new-sample", read_frame, label)
    if first:
        def came(_pad, _info):
            tell("first", peer=label)
            return Gst.PadProbeReturn.REMOVE
        first.get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, came)


class Joiner:
    """Joins a room by one pipeline after another, all in this process."""

    def __init__(self, description):
        self.description, self.peers = description, {}

    def join(self, peer):
        pipeline = Gst.parse_launch(self.description)
        watch_frames(pipeline, peer)
        self.peers[peer] = pipeline
        pipeline.set_state(Gst.State.PLAYING)

    def drop(self, peer):
        self.peers.pop(peer).set_state(Gst.State.NULL)


def serve(program):
    """Does what the lines on stdin ask."""
    for line in sys.stdin:
        request = json.loads(line)
        do, peer = request["do"], request.get("peer")
        try:
            value = None
            if do == "usage":
                value = usage()
            elif do == "answer":
                set_remote(program.webrtcbin(peer), GstWebRTC.WebRTCSDPType.ANSWER, request["sdp"])
            elif do == "candidate":
                program.webrtcbin(peer).emit("add-ice-candidate", request["line"], request["text"])
            elif do == "take":
                program.take(peer, request["sdp"])
            else:
                getattr(program, do)(peer)
            tell("reply", id=request["id"], value=value)
        except Exception as error:  # whoever asked is told
            tell("reply", id=request["id"], failure=repr(error))
    os._exit(0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--send", help="be a sender of what this description encodes")
    parser.add_argument("--join", help="be a receiver that joins a room with this whole pipeline")
    parser.add_argument("--decode", help="be a receiver that decodes by this bin")
    parser.add_argument("--latency", type=int, default=50, help="the receivers' jitter buffer in ms")
    options = parser.parse_args()
    Gst.init(None)
    if options.send:
        program = Sender(options.send)
    elif options.join:
        program = Joiner(options.join)
    else:
        program = Receivers(options.decode, options.latency)
    tell("ready", pid=os.getpid())
    threading.Thread(target=serve, args=(program,), daemon=True).start()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
