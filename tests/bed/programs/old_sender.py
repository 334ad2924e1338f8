"""A sender on plain webrtcbin that speaks as clients did before the protocol had a version: it registers, never joins,
offers to whoever is there, and has one peer connection. Its descriptions and candidates name no target and no session.

Events: signaling (the type of each message that came), state.
"""

import argparse
import asyncio
import json
import sys
import threading
import time

import gi
import websockets

gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import Gst, GstSdp, GstWebRTC  # noqa: E402

import barcode  # noqa: E402

RATE = 30


_out = threading.Lock()


def tell(event, **fields):
    """One JSON line out; webrtcbin's threads tell, too."""
    with _out:
        print(json.dumps({"event": event, "t": time.time(), **fields}), flush=True)


def describe(width, height):
    return (f"appsrc name=picture is-live=true format=time do-timestamp=true caps=video/x-raw,format=I420,width={width},"
            f"height={height},framerate={RATE}/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=30 ! "
            "video/x-h264,profile=constrained-baseline ! rtph264pay config-interval=-1 aggregate-mode=zero-latency pt=96 ! "
            "application/x-rtp,media=video,encoding-name=H264,payload=96 ! webrtcbin name=peer bundle-policy=max-bundle")


async def feed(source, painter):
    """Pictures in real time."""
    due = time.monotonic()
    while True:
        source.emit("push-buffer", Gst.Buffer.new_wrapped(painter.paint()))
        due += 1 / RATE
        await asyncio.sleep(max(0, due - time.monotonic()))


async def main(options):
    Gst.init(None)
    pipeline = Gst.parse_launch(describe(320, 240))
    peer, loop = pipeline.get_by_name("peer"), asyncio.get_running_loop()
    async with websockets.connect(options.url) as socket:
        def send(**message):
            asyncio.run_coroutine_threadsafe(socket.send(json.dumps(message)), loop)

        def offered(promise, *_):
            reply = promise.get_reply()
            offer = reply.get_value("offer")
            peer.emit("set-local-description", offer, Gst.Promise.new())
            send(type="offer", sdp=offer.sdp.as_text())

        peer.connect("on-negotiation-needed", lambda _p: peer.emit(
            "create-offer", None, Gst.Promise.new_with_change_func(offered)))
        peer.connect("on-ice-candidate", lambda _p, line, text: send(
            type="candidate", candidate={"candidate": text, "sdpMLineIndex": line, "sdpMid": f"video{line}"}))
        peer.connect("notify::connection-state", lambda p, _s: tell("state", state=p.get_property("connection-state").value_nick))
        send(type="register", client_id=options.id)
        pipeline.set_state(Gst.State.PLAYING)
        feeding = asyncio.ensure_future(feed(pipeline.get_by_name("picture"), barcode.Painter(320, 240, 1)))
        async for text in socket:
            message = json.loads(text)
            tell("signaling", type=message["type"])
            if message["type"] == "answer":
                _, sdp = GstSdp.SDPMessage.new_from_text(message["sdp"])
                answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
                peer.emit("set-remote-description", answer, Gst.Promise.new())
            elif message["type"] == "candidate" and message["candidate"]:
                peer.emit("add-ice-candidate", message["candidate"]["sdpMLineIndex"], message["candidate"]["candidate"])
        feeding.cancel()
    pipeline.set_state(Gst.State.NULL)


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("url")
parser.add_argument("id")
try:
    asyncio.run(main(parser.parse_args()))
except (websockets.ConnectionClosed, OSError) as error:
    tell("closed", reason=str(error))
    sys.exit(1)
