"""A member of a room that sends whatever the test tells it to. Events: message (each message of the server), reply.

    raw_client.py URL ROOM ID ROLE

JSON lines on stdin: {"id": 1, "do": "send", "message": {…}}.
"""

import asyncio
import json
import sys

import websockets


def tell(event, **fields):
    print(json.dumps({**fields, "event": event}), flush=True)


async def obey(socket):
    """Sends what is asked for on stdin."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        request = json.loads(line)
        await socket.send(json.dumps(request["message"]))
        tell("reply", id=request["id"], value=None)


async def main(url, room, client_id, role):
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"type": "register", "client_id": client_id, "protocol": 1, "instance": client_id.ljust(32, "x")}))
        await socket.send(json.dumps({"type": "join", "room_id": room, "role": role}))
        obeying = asyncio.ensure_future(obey(socket))
        async for text in socket:
            message = json.loads(text)
            tell("message", **message)
        obeying.cancel()


asyncio.run(main(*sys.argv[1:]))
