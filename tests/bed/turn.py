"""A TURN client (RFC 8656) of a few requests, to ask a relay what it allows."""

import base64
import hashlib
import hmac
import ipaddress
import os
import socket
import struct
import time
from typing import Self

_COOKIE = 0x2112A442
ALLOCATE, CREATE_PERMISSION = 3, 8
_ERROR_CODE, _REALM, _NONCE, _PEER, _USERNAME, _INTEGRITY = 0x09, 0x14, 0x15, 0x12, 0x06, 0x08
_TRANSPORT, _FAMILY = 0x19, 0x17
UDP, TCP = 17, 6


def credentials(secret: str, name: str = "someone", seconds: int = 3600) -> tuple[str, str]:
    """What the signaling server makes for a member: user name and password."""
    user = f"{int(time.time()) + seconds}:{name}"
    return user, base64.b64encode(hmac.new(secret.encode(), user.encode(), hashlib.sha1).digest()).decode()


class Client:
    """One connection to a relay, with at most one allocation."""

    def __init__(self, address: str, port: int, user: str, password: str, over: int = UDP):
        kind = socket.SOCK_STREAM if over == TCP else socket.SOCK_DGRAM
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        self._socket.settimeout(10)
        self._socket.connect((address, port))
        self._user, self._password = user, password
        self._key: bytes | None = None
        self._realm = self._nonce = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def allocate(self, transport: int = UDP, ipv6: bool = False) -> int:
        """Asks for an allocation; 0 where there is one, else the code of the error."""
        attributes = [(_TRANSPORT, bytes([transport, 0, 0, 0]))]
        if ipv6:
            attributes.append((_FAMILY, bytes([2, 0, 0, 0])))
        found = self._ask(ALLOCATE, attributes)
        if _code(found) == 401:
            self._realm, self._nonce = found[_REALM], found[_NONCE]
            key = self._user.encode() + b":" + self._realm + b":" + self._password.encode()
            self._key = hashlib.md5(key).digest()
            found = self._ask(ALLOCATE, attributes)
        return _code(found)

    def permit(self, peer: str) -> int:
        """Asks to exchange packets with an address; 0 where that is allowed, else the code of the error."""
        address = ipaddress.ip_address(peer)
        mask = struct.pack(">I", _COOKIE) + self._transaction
        packed = bytes(a ^ b for a, b in zip(address.packed, mask))
        family = 1 if address.version == 4 else 2
        return _code(self._ask(CREATE_PERMISSION, [(_PEER, struct.pack(">BBH", 0, family, 80 ^ 0x2112) + packed)]))

    # The same number for all requests: XOR-PEER-ADDRESS of IPv6 depends on it, and each request waits for its answer.
    _transaction = os.urandom(12)

    def _ask(self, method: int, attributes: list[tuple[int, bytes]]) -> dict[int, bytes]:
        if self._key:
            attributes = [*attributes, (_USERNAME, self._user.encode()), (_REALM, self._realm), (_NONCE, self._nonce)]
        body = b"".join(struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4) for kind, value in attributes)
        length = len(body) + (24 if self._key else 0)
        request = struct.pack(">HHI", method, length, _COOKIE) + self._transaction + body
        if self._key:
            request += struct.pack(">HH", _INTEGRITY, 20) + hmac.new(self._key, request, hashlib.sha1).digest()
        self._socket.sendall(request)
        return _attributes(self._answer())

    def _answer(self) -> bytes:
        if self._socket.type == socket.SOCK_DGRAM:
            return self._socket.recv(2000)
        with self._socket.makefile("rb") as stream:
            head = stream.read(20)
            return head + stream.read(struct.unpack(">H", head[2:4])[0])


def _attributes(answer: bytes) -> dict[int, bytes]:
    found, at = {}, 20
    while at < len(answer):
        kind, length = struct.unpack(">HH", answer[at:at + 4])
        found[kind] = answer[at + 4:at + 4 + length]
        at += 4 + length + -length % 4
    return found


def _code(found: dict[int, bytes]) -> int:
    error = found.get(_ERROR_CODE)
    return error[2] * 100 + error[3] if error else 0
