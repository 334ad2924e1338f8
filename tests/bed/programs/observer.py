"""Who is in a room? Joins as a sender (senders see all members), prints `peers`, leaves.

    observer.py URL ROOM        once
"""

import asyncio
import json
import sys
import time

import websockets


async def main(url, room):
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"type": "register", "client_id": f"observer-{time.time_ns()}", "protocol": 1}))
        await socket.send(json.dumps({"type": "join", "room_id": room, "role": "sender"}))
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "joined":
                await socket.send(json.dumps({"type": "leave"}))
                print(json.dumps({"event": "peers", "peers": message["peers"]}), flush=True)
            elif message["type"] in ("left", "error"):
                print(json.dumps({"event": message["type"], **message}), flush=True)
                return


asyncio.run(main(*sys.argv[1:]))
