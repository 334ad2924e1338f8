"""A server of the room protocol on asyncio and websockets, simple but tuned, with which the benchmark compares
room-signaling. It has no authentication, limits or metrics.

    python_server.py PORT
"""

import asyncio
import collections
import json
import sys

from websockets.asyncio.server import broadcast, serve
from websockets.exceptions import ConnectionClosed

OPPOSITE = {"sender": "receiver", "receiver": "sender"}
TO_OPPOSITE = {"offer", "answer", "candidate", "bye"}

# The members, by room and id.
rooms = collections.defaultdict(dict)


class Member:
    """One connection and its room."""

    __slots__ = ("client_id", "role", "room", "socket")

    def __init__(self, socket):
        self.socket, self.client_id, self.role, self.room = socket, None, None, None

    def entry(self):
        return {"client_id": self.client_id, "role": self.role, "protocol": 1}

    def sees(self, other):
        return self is not other and "sender" in (self.role, other.role)

    def others(self):
        return [other for other in rooms[self.room].values() if other is not self]


async def send(member, **message):
    await member.socket.send(json.dumps(message))


def send_to_others(member, message):
    broadcast([other.socket for other in member.others() if other.sees(member)], json.dumps(message))


async def register(member, message):
    member.client_id = message.get("client_id") or f"client-{id(member):x}"
    await send(member, type="registered", client_id=member.client_id, protocol=1, server="python", heartbeat_s=15)


async def join(member, message):
    leave(member, "left")
    member.role = message.get("role", "receiver")
    if member.role not in OPPOSITE:
        return await send(member, type="error", code="unknown_role", message="sender or receiver", request="join")
    member.room = message["room_id"]
    rooms[member.room][member.client_id] = member
    peers = [other.entry() for other in member.others() if member.sees(other)]
    await send(member, type="joined", room_id=member.room, role=member.role, peers=peers, total=len(peers), ice_servers=[])
    send_to_others(member, {"type": "peer_joined", **member.entry()})


def leave(member, reason):
    if member.room is None:
        return
    send_to_others(member, {"type": "peer_left", "client_id": member.client_id, "reason": reason})
    members = rooms[member.room]
    if members.get(member.client_id) is member:
        del members[member.client_id]
    if not members:
        del rooms[member.room]
    member.room = None


async def relay(member, message):
    kind, target_id = message["type"], message.get("target_id")
    if member.room is None:
        return await send(member, type="error", code="not_joined", message="join a room first", request=kind)
    message["from"] = member.client_id
    text = json.dumps(message)
    if target_id:
        target = rooms[member.room].get(target_id)
        if target is None:
            return await send(member, type="error", code="target_not_found", message="nobody has that id", request=kind)
        try:
            await target.socket.send(text)
        except ConnectionClosed:
            pass
        return
    wanted = OPPOSITE[member.role] if kind in TO_OPPOSITE else None
    broadcast([other.socket for other in member.others() if wanted in (None, other.role)], text)


async def handle(socket):
    member = Member(socket)
    try:
        async for text in socket:
            message = json.loads(text)
            kind = message["type"]
            if kind == "register":
                await register(member, message)
            elif kind == "join":
                await join(member, message)
            elif kind == "leave":
                leave(member, "left")
                await send(member, type="left")
            elif kind == "ping":
                await send(member, **{**message, "type": "pong"})
            else:
                await relay(member, message)
    except ConnectionClosed:
        pass
    finally:
        leave(member, "disconnected")


async def main(port):
    options = {"compression": None, "max_size": 64 << 10, "ping_interval": 15, "ping_timeout": 10, "backlog": 4096}
    async with serve(handle, "127.0.0.1", port, **options) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
