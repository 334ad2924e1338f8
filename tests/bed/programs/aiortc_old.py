"""A receiver on stock aiortc that speaks as clients did before the protocol had a version: register, join, wait for the
offer, answer it. It sends no field that they didn't know, and one peer connection is all it has.

Events: signaling (the type of each message that came), state, frame, data.
"""

import argparse
import asyncio
import json
import sys
import time

import numpy as np
import websockets
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp

import barcode


def tell(event, **fields):
    print(json.dumps({"event": event, "t": time.time(), **fields}, ensure_ascii=False), flush=True)


async def pump(track):
    """Tells every decoded picture until the track ends."""
    while True:
        frame = await track.recv()
        plane = frame.planes[0]
        luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : frame.width]
        mark = barcode.read(luma)
        fields = {} if mark is None else {**mark._asdict(), "latency_ms": barcode.age_ms(mark)}
        tell("frame", pad=track.kind, width=frame.width, height=frame.height, **fields)


def echo(channel):
    """Tells what comes over a data channel, and sends it back in capitals."""
    def message(data):
        text = data if isinstance(data, str) else data.decode()
        tell("data", label=channel.label, text=text)
        channel.send(text.upper().encode())
    channel.on("message", message)


async def answer(connection, socket, message):
    await connection.setRemoteDescription(RTCSessionDescription(message["sdp"], "offer"))
    await connection.setLocalDescription(await connection.createAnswer())
    await socket.send(json.dumps({"type": "answer", "sdp": connection.localDescription.sdp}))


async def add_candidate(connection, message):
    fields = message["candidate"]
    candidate = candidate_from_sdp(fields["candidate"].split(":", 1)[1])
    candidate.sdpMid, candidate.sdpMLineIndex = fields["sdpMid"], fields["sdpMLineIndex"]
    await connection.addIceCandidate(candidate)


async def main(options):
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.on("connectionstatechange", lambda: tell("state", state=connection.connectionState))
    tasks = []
    connection.on("datachannel", echo)
    connection.on("track", lambda track: tasks.append(asyncio.ensure_future(pump(track))))
    async with websockets.connect(options.url) as socket:
        await socket.send(json.dumps({"type": "register", "client_id": options.id}))
        await socket.send(json.dumps({"type": "join", "room_id": options.room, "role": "receiver"}))
        tell("ready")
        early = []  # aiortc takes no candidate before the offer
        async for text in socket:
            message = json.loads(text)
            tell("signaling", type=message["type"], message={**message, "sdp": None})
            if message["type"] == "offer" and not options.never_answer:
                await answer(connection, socket, message)
                for one in early:
                    await add_candidate(connection, one)
                early = None
            elif message["type"] == "candidate":
                if early is None:
                    await add_candidate(connection, message)
                else:
                    early.append(message)
    tell("end")


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("url")
parser.add_argument("room")
parser.add_argument("id")
parser.add_argument("--never-answer", action="store_true", help="take the offer and say nothing")
try:
    asyncio.run(main(parser.parse_args()))
except (websockets.ConnectionClosed, OSError) as error:
    tell("closed", reason=str(error))
    sys.exit(1)
