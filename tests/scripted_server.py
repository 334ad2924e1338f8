"""A signaling server whose messages the test sends, so that a test decides what a client learns, and when."""

import json
import mimetypes
import queue
import threading

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response
from websockets.sync.server import serve

from bed.bed import ROOT

TIMEOUT = 30
PAGE = ROOT / "signaling" / "viewer"
# A description that every receiver accepts, without a peer behind it.
OFFER = "\r\n".join([
    "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0", "m=video 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0",
    "a=mid:0", "a=setup:actpass", "a=sendonly", "a=rtcp-mux", "a=ice-ufrag:abcd", "a=ice-pwd:abcdefghijklmnopqrstuvwx",
    "a=fingerprint:sha-256 " + ":".join(["00"] * 32), "a=rtpmap:96 VP8/90000", ""])


class Server:
    """Accepts WebSockets on a free port of the loopback interface, and serves the files of the viewer page there."""

    def __init__(self):
        self.connections = queue.Queue()
        self._server = serve(self._handle, "127.0.0.1", 0, process_request=self._page)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _page(self, _socket, request):
        """Answers a request that is not for a WebSocket."""
        if "Upgrade" in request.headers:
            return None
        file = PAGE / (request.path.partition("?")[0].strip("/") or "index.html")
        if not file.is_file():
            return Response(404, "Not Found", Headers(), b"")
        kind = mimetypes.guess_type(file.name)[0]
        return Response(200, "OK", Headers({"Content-Type": kind, "Connection": "close"}), file.read_bytes())

    def _handle(self, socket):
        messages = queue.Queue()
        self.connections.put((socket, messages))
        try:
            for text in socket:
                messages.put(json.loads(text))
        except ConnectionClosed:
            pass
        messages.put({"type": "closed"})

    def close(self):
        self._server.shutdown()
        self._thread.join()


class Member:
    """The client of the next connection, after it has joined the room with these peers in it."""

    def __init__(self, server, peers):
        self.socket, self.messages = server.connections.get(timeout=TIMEOUT)
        register = self.next()
        assert register["type"] == "register"
        self.send(type="registered", client_id=register.get("client_id", "watcher"), protocol=1, server="test", heartbeat_s=15)
        self.join = self.next()
        assert self.join["type"] == "join" and self.join["role"] == "receiver"
        self.joined(peers)

    def joined(self, peers):
        self.send(type="joined", room_id="living_room", role="receiver", peers=peers, total=len(peers), ice_servers=[])

    def next(self):
        return self.messages.get(timeout=TIMEOUT)

    def send(self, **message):
        self.socket.send(json.dumps(message))

    def offer(self, sender, session_id, sdp=OFFER):
        self.send(**{"type": "offer", "from": sender, "session_id": session_id, "sdp": sdp})


def sender(client_id, epoch="e1"):
    """A sender in a list of peers."""
    return {"client_id": client_id, "role": "sender", "protocol": 1, "epoch": epoch}


def about(message):
    """The fields of a message to a peer that tests compare."""
    return message["type"], message["target_id"], message["session_id"]
