"""Many receivers that wait for a sender, in one process. Events: joined, offer, each with the id of the receiver.

    waiting_room.py URL ROOM COUNT
"""

import asyncio
import json
import sys

import websockets


def tell(event, member):
    print(json.dumps({"event": event, "id": member}), flush=True)


async def wait(url, room, member):
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"type": "register", "client_id": member, "protocol": 1, "instance": member.ljust(32, "x")}))
        await socket.send(json.dumps({"type": "join", "room_id": room, "role": "receiver"}))
        async for text in socket:
            if (kind := json.loads(text)["type"]) in ("joined", "offer"):
                tell(kind, member)


async def main(url, room, count):
    await asyncio.gather(*(wait(url, room, f"watcher-{number}") for number in range(int(count))))


asyncio.run(main(*sys.argv[1:]))
