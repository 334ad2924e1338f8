#!/usr/bin/env python3
"""Receives the video of every sender in a room with stock aiortc, and counts, prints or records it.

Media sessions outlive the signaling server: if the server restarts, running video is unaffected, and this program joins
the room again on its own. It also follows a sender that restarts with its old id. To process the pictures, start at
`Session.watch`: it sees every decoded frame of every sender as an `av.VideoFrame`.

The program is one file, so that it can be copied anywhere. Its parts, in this order:

    Receiver    connects the parts and owns the media sessions
    Signaling   the connection to the server, which it renews without end
    Presence    the senders in the room, and which sessions survive a reconnect
    Recovery    new offers from senders whose sessions failed
    Session     one peer connection that answers one offer; Offer edits the session descriptions
    Output      counts, prints and records the decoded frames; Recorder writes one file
    addresses, and the command line
"""

import argparse
import asyncio
import json
import os
import random
import re
import secrets
import signal
import ssl
import sys
import threading
import time
import unicodedata
from fractions import Fraction
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

try:
    import av
    import websockets
    from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
    from aiortc.mediastreams import MediaStreamError
    from aiortc.sdp import candidate_from_sdp
except ModuleNotFoundError as missing:
    sys.exit(
        f"The Python module “{missing.name}” is missing. Install what this program needs:\n"
        f'    {sys.executable} -m pip install "aiortc>=1.9" "websockets>=13"\n'
        "(On Debian: first `sudo apt install python3-venv`, then `python3 -m venv venv` and run venv/bin/python.)"
    )

EXAMPLES = """examples:
  receiver.py --room-id living_room --stats            print frames per second of every camera in the room
  receiver.py --room-id living_room --frames 100       end with success after 100 frames
  receiver.py --server-ip 192.168.1.5 --record cam.mp4
  receiver.py --uri wss://example.org/ws --room-id 客厅 --turn turn.example.org --turn-user me --turn-pass secret
"""
av.logging.set_level(av.logging.ERROR)
DEFAULT_PORT = 8765
ABSENT_SECONDS = 30  # How long a session outlives the absence of its sender after a reconnect.
FIRST_PAUSE, LAST_PAUSE = 0.5, 60.0  # Seconds between requests for new offers.
CERTIFICATE_NOT_YET_VALID = 9  # OpenSSL's number.
FATAL_CLOSES = {
    4001: "this receiver was started again elsewhere with the same identity",
    4002: "another client in the room uses this client id; choose another with --client-id",
    4003: "the server does not understand this program: their versions do not match",
    4010: "the server requires a valid token; give one with --token or in ROOM_TOKEN",
    1009: "a message of this program was too large for the server",
}
PASSING_REFUSALS = {"room_full", "too_many_rooms", "too_many_attempts", "server_draining"}


class Failed(Exception):
    """The program can't do its work; the text says why."""


class Receiver:
    """Connects the parts, and owns a media session with each sender."""

    def __init__(self, options):
        self.options = options
        self.signaling = Signaling(options, self.on_message)
        self.presence, self.absence = Presence(), None  # `absence` is the timer of `expire`.
        self.sessions = {}  # By sender.
        self.recovery = Recovery(self.presence.present, lambda: bool(self.sessions), self.signaling)
        self.output = Output(options)
        self.ice_servers = own_ice_servers(options)
        self.tasks = set()  # asyncio itself keeps weak references to tasks only.
        self.done, self.failure = asyncio.Event(), None

    def spawn(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def on_message(self, kind, message):
        sender = message.get("from")
        if kind == "joined":
            self.on_joined(message)
        elif kind == "peer_joined":
            self.end_all(self.presence.peer_joined(message))
        elif kind == "peer_left":
            self.end_all(self.presence.peer_left(message["client_id"], message.get("reason")))
        elif kind == "offer":
            self.on_offer(sender, message)
        elif kind == "candidate" and self.is_current(sender, message):
            self.sessions[sender].inbox.put_nowait(message)
        elif kind == "bye" and (self.is_current(sender, message) or self.recovery.is_owed(sender)):
            say(f"{sender}: ended")
            self.end(sender)

    def is_current(self, sender, message):
        """Whether a message is about the current session with its sender, and not about one that has ended."""
        session = self.sessions.get(sender)
        return session and (not session.session_id or message.get("session_id") in (None, session.session_id))

    def on_joined(self, message):
        self.ice_servers = own_ice_servers(self.options) + [
            RTCIceServer(urls=s["urls"], username=s.get("username"), credential=s.get("credential"))
            for s in message.get("ice_servers") or []
        ]
        now = asyncio.get_running_loop().time()
        self.end_all(self.presence.joined(message.get("peers"), message.get("total", 0), now))
        self.expire()

    def expire(self):
        """Ends the sessions whose senders are absent for too long, now and when the next one is due."""
        loop = asyncio.get_running_loop()
        self.end_all(self.presence.expired(loop.time()))
        if self.absence:
            self.absence.cancel()
        due = self.presence.deadline()
        self.absence = None if due is None else loop.call_at(due, self.expire)

    def on_offer(self, sender, message):
        if not self.presence.may_offer(sender):
            return say(f"{sender}: ignored an offer of a member that is no sender")
        self.end(sender)
        self.presence.media(sender, "started")
        self.sessions[sender] = Session(self, sender, message.get("session_id"))
        self.sessions[sender].inbox.put_nowait(message)

    def on_media(self, session, state):
        """The connection of a session was established, failed, or was closed by the sender."""
        sender = session.sender
        if self.sessions.get(sender) is not session:
            return
        if state == "connected":
            self.presence.media(sender, "connected")
            return self.recovery.connected()
        say(f"{sender}: gone (media {state})")
        self.end(sender, tell=True)
        self.recovery.failed(sender)

    def end_all(self, ended):
        """Ends sessions: pairs of a sender and the reason, which is printed unless it is None."""
        for sender, reason in ended:
            if reason and sender in self.sessions:
                say(f"{sender}: {reason}")
            self.end(sender)

    def end(self, sender, tell=False):
        self.recovery.settled(sender)
        session = self.sessions.pop(sender, None)
        if session:
            self.presence.media(sender, "none")
            self.spawn(session.close(tell))

    def on_frame(self, name, frame):
        self.output.count(name, frame)
        if self.options.frames and self.output.total() >= self.options.frames:
            self.done.set()

    def fail(self, why):
        self.failure = Failed(why)
        self.done.set()

    async def close(self):
        sessions, self.sessions = list(self.sessions.values()), {}
        if sessions:
            await asyncio.wait([self.spawn(s.close(tell=True)) for s in sessions], timeout=3)
        await self.signaling.send({"type": "leave"})
        for error in self.output.close():
            self.fail(f"a recording could not be finished: {error}")


class Signaling:
    """The connection to the server: registers, joins, and reconnects without end. It knows nothing of media."""

    def __init__(self, options, on_message):
        """`on_message(kind, message)` gets every message of the server, after this class has handled it."""
        client_id = unicodedata.normalize("NFC", options.client_id or f"python-{secrets.token_hex(4)}")
        room_id = unicodedata.normalize("NFC", options.room_id)
        self.uri, self.on_message = server_uri(options, room_id), on_message
        self.tls = trust(options.tls_ca_file) if self.uri.startswith("wss:") else None
        # The server recognizes this process by its instance, a secret.
        self.register = {"type": "register", "client_id": client_id, "protocol": 1, "instance": secrets.token_hex(16)}
        self.register["token"] = options.token
        self.join = {"type": "join", "room_id": room_id, "role": "receiver"}
        self.join.update(password=options.password, token=options.token)
        self.ws, self.joined, self.been_joined = None, False, False
        self.retry_after, self.refusal = 0.0, None
        self.reported = set()  # Reasons for failed connections, each reported once.
        self.leaving, self.requests = False, 0
        self.refresh = None  # The timer of the join that brings fresh credentials.
        self.tasks = set()

    async def run(self):
        """Connects and reconnects without end; raises `Failed`."""
        attempt = 0
        while True:
            code, why = await self.connect_once()
            if code in FATAL_CLOSES:
                raise Failed(FATAL_CLOSES[code] + (f" (the server says: {self.refusal})" if self.refusal else ""))
            self.report(self.refusal or why)
            attempt = 1 if self.joined else attempt + 1
            # Full jitter: up to a bound that doubles from 100 ms to 10 s. A draining server sets the pause itself.
            spread = 1.0 if self.retry_after else min(10.0, 0.1 * 2 ** min(attempt - 1, 10))
            await asyncio.sleep(self.retry_after + random.uniform(0, spread))
            self.retry_after = 0.0

    async def connect_once(self):
        """Connects, and returns the close code and the reason when the connection is over."""
        self.joined, code, why = False, None, ""
        try:
            async with websockets.connect(
                self.uri, ssl=self.tls, open_timeout=10, ping_interval=10, ping_timeout=10
            ) as self.ws:
                await self.converse()
        except websockets.ConnectionClosed as closed:
            code, why = (closed.rcvd.code if closed.rcvd else None), str(closed)
        except websockets.InvalidURI as error:
            raise Failed(f"{self.uri} is no server address; write it like ws://host:8765 ({error})") from error
        except ssl.SSLCertVerificationError as error:
            why = f"the certificate is not trusted ({error.verify_message})"
            if error.verify_code != CERTIFICATE_NOT_YET_VALID and not self.been_joined:
                advice = "if an authority of your own signed it, name its PEM file with --tls-ca-file"
                raise Failed(f"{self.uri}: {why}; {advice}") from error
        except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
            why = str(error) or type(error).__name__
        return code, why

    async def converse(self):
        self.refusal = None
        self.refresh_later(None)
        await self.send(self.register)
        await self.send(self.join)
        async for text in self.ws:
            message = json.loads(text)
            kind = message.get("type")
            self.handle(kind, message)
            self.on_message(kind, message)

    def report(self, reason):
        """Reports a lost or failed connection, once per reason until this program is in the room again."""
        if reason not in self.reported:
            self.reported.add(reason)
            say(f"no connection to {self.uri} ({reason}); retrying, running video is unaffected")

    async def send(self, message):
        """Sends a message, or drops it without a connection: a reconnect renews the sessions that need it."""
        try:
            await self.ws.send(json.dumps({k: v for k, v in message.items() if v is not None}))
        except (websockets.ConnectionClosed, AttributeError):
            pass

    def spawn(self, work):
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def handle(self, kind, message):
        """Handles the messages that concern the membership itself."""
        if kind == "joined":
            if not self.joined:
                say(f"in room {message.get('room_id')} as {self.register['client_id']}")
            self.joined = self.been_joined = True
            self.reported.clear()
            self.refresh_later(message.get("ice_ttl_s"))
        elif kind == "left":
            if not self.leaving:  # Removed from the room. If there is a reason, the next join fails with it.
                self.spawn(self.ws.close())
            self.leaving = False
        elif kind == "draining":
            self.retry_after = min(60.0, message.get("retry_after_ms", 0) / 1000)
        elif kind == "error":
            self.refused(message)

    def refused(self, message):
        self.refusal, code = message.get("message") or message.get("code"), message.get("code")
        if message.get("request") not in ("register", "join") or code == "unauthorized":
            return  # The error is about something else, or the close that follows has the consequences.
        if code not in PASSING_REFUSALS:
            raise Failed(f"the server does not let this program into the room: {self.refusal}")
        self.spawn(self.ws.close())

    def refresh_later(self, seconds):
        """Joins the same room again before its TURN credentials expire, which brings fresh ones for later sessions."""
        if self.refresh:
            self.refresh.cancel()
        self.refresh = None
        if isinstance(seconds, (int, float)):
            join = lambda: self.spawn(self.send(self.join))
            self.refresh = asyncio.get_running_loop().call_later(max(30, seconds / 2), join)

    async def change_meta(self):
        """Joins the same room with another `meta`. Senders that received a `bye` then offer again."""
        self.requests += 1
        self.join["meta"] = {"offers_requested": self.requests}
        await self.send(self.join)

    async def rejoin(self):
        """Leaves the room and joins it again. Every sender then offers."""
        self.leaving = True
        await self.send({"type": "leave"})
        await self.send(self.join)


class Presence:
    """The senders in the room, and which media sessions survive a reconnect (docs/protocol.md).

    No socket and no clock is needed: times are arguments, in seconds of any monotonic clock. Methods that take messages
    return the sessions to end, as pairs of a sender and the reason, which is None if there is nothing to report.
    """

    class Sender:
        def __init__(self, epoch):
            self.present, self.epoch = True, epoch
            self.media = "none"  # Or "started", or "connected".
            self.deadline = None  # When an absent sender has been absent for too long.

    def __init__(self):
        self.senders, self.all_announced = {}, True

    def present(self):
        """The ids of the senders that are in the room."""
        return {name for name, sender in self.senders.items() if sender.present}

    def may_offer(self, member):
        """Whether a member may offer media: a known sender may, or anybody if the server does not announce all senders."""
        return isinstance(member, str) and (member in self.senders or not self.all_announced)

    def joined(self, peers, total, now):
        """Applies `joined`: `peers` are the members, or None, and `total` is their number."""
        # Servers before protocol version 1 list nobody, and a list that was cut proves nobody absent.
        self.all_announced = peers is not None and total <= len(peers)
        listed = [peer for peer in peers or [] if peer.get("role") == "sender"]
        ended = [end for peer in listed for end in self.peer_joined(peer)]
        if self.all_announced:
            for name in self.senders.keys() - {peer["client_id"] for peer in listed}:
                sender = self.senders[name]
                sender.present = False
                if sender.media == "none":
                    del self.senders[name]
                elif sender.deadline is None:
                    sender.deadline = now + ABSENT_SECONDS
        return ended

    def peer_joined(self, peer):
        """Applies an announcement: the member is new, back, or changed."""
        name, epoch = peer["client_id"], peer.get("epoch")
        if peer.get("role") != "sender":
            self.senders.pop(name, None)
            return [(name, None)]
        sender = self.senders.setdefault(name, self.Sender(epoch))
        restarted = sender.media != "none" and sender.epoch != epoch
        sender.present, sender.epoch, sender.deadline = True, epoch, None
        return [(name, "restarted")] if restarted else []

    def peer_left(self, name, reason):
        """Applies `peer_left`. A lost signaling connection does not affect running media: the media itself decides."""
        sender = self.senders.get(name)
        if sender and sender.media == "connected" and reason not in ("left", "kicked"):
            sender.present = False
            return []
        self.senders.pop(name, None)
        return [(name, f"gone ({reason})")]

    def media(self, name, state):
        """The media session with a sender is in another state: "none", "started" or "connected"."""
        sender = self.senders.get(name)
        if sender is None and state == "started":  # A sender that the server did not announce.
            sender = self.senders[name] = self.Sender(None)
        if sender:
            sender.media = state
            if state == "none" and not sender.present:
                del self.senders[name]

    def deadline(self):
        """When `expired` has something to return; None if nobody is absent."""
        return min((s.deadline for s in self.senders.values() if s.deadline is not None), default=None)

    def expired(self, now):
        """The sessions whose senders have been absent for too long."""
        names = [n for n, sender in self.senders.items() if sender.deadline is not None and sender.deadline <= now]
        for name in names:
            del self.senders[name]
        return [(name, "gone (did not come back)") for name in names]


class Recovery:
    """Gets new offers from senders whose sessions failed, after pauses that grow from 0.5 s to 60 s.

    A sender that received a `bye` offers again when this program changes its `meta`, and other sessions are not affected.
    Older senders offer to every receiver that joins, so without other sessions the program leaves and joins.
    """

    def __init__(self, present, has_sessions, signaling):
        """`present()` returns the senders in the room, and `has_sessions()` whether there is any session."""
        self.present, self.has_sessions, self.signaling = present, has_sessions, signaling
        self.owed, self.pause, self.task = set(), FIRST_PAUSE, None

    def failed(self, sender):
        """The session failed, and the sender was informed. It owes an offer until it offers, sends `bye` or leaves."""
        self.owed.add(sender)
        if self.task is None:
            self.task = asyncio.ensure_future(self.ask())

    def settled(self, sender):
        self.owed.discard(sender)

    def is_owed(self, sender):
        return sender in self.owed

    def connected(self):
        """A session connected, so the network works."""
        self.pause = FIRST_PAUSE

    async def ask(self):
        while self.owed:
            await asyncio.sleep(self.pause)
            self.pause = min(LAST_PAUSE, self.pause * 2)
            if not self.owed & self.present():
                continue  # A sender that is not in the room offers when it returns.
            if self.has_sessions():
                await self.signaling.change_meta()
            else:
                await self.signaling.rejoin()
        self.task = None


class Session:
    """One media session: a peer connection that answers one offer of one sender."""

    def __init__(self, receiver, sender, session_id):
        self.receiver, self.sender, self.session_id = receiver, sender, session_id
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=receiver.ice_servers))
        self.pc.on("track", self.on_track)
        self.pc.on("connectionstatechange", self.on_state)
        self.inbox, self.tasks, self.tracks, self.closed = asyncio.Queue(), [], 0, False
        self.offered = time.monotonic()
        self.spawn(self.negotiate())

    def spawn(self, work):
        self.tasks.append(asyncio.ensure_future(work))

    async def negotiate(self):
        """Handles the offer first, then the candidates in the order of their arrival."""
        while True:
            message = await self.inbox.get()
            try:
                if message["type"] == "offer":
                    await self.answer(message["sdp"])
                else:
                    await self.add_candidate(message.get("candidate") or {})
            except Exception as error:  # A malformed message ends at most the session with its sender.
                say(f"{self.sender}: {message['type']} refused: {error}")
                if message["type"] == "offer":
                    self.receiver.end(self.sender, tell=True)

    async def answer(self, sdp):
        preferred = f"video/{self.receiver.options.codec}".lower()
        codecs = sorted(RTCRtpReceiver.getCapabilities("video").codecs, key=lambda c: c.mimeType.lower() != preferred)
        known = {codec.mimeType.lower() for kind in ("audio", "video") for codec in RTCRtpReceiver.getCapabilities(kind).codecs}
        offer = Offer(sdp, known)
        for name in offer.refused_codecs():
            say(f"{self.sender}: a stream is left out, because aiortc does not know its codec {name}")
        for _ in range(offer.accepted("video")):
            self.pc.addTransceiver("video", direction="recvonly").setCodecPreferences(codecs)
        await self.pc.setRemoteDescription(RTCSessionDescription(offer.text(), "offer"))
        await self.pc.setLocalDescription(await self.pc.createAnswer())
        # aiortc gathers before it answers, so the answer contains all of its candidates.
        await self.send({"type": "answer", "sdp": offer.complete(self.pc.localDescription.sdp)})

    async def add_candidate(self, message):
        line = message.get("candidate")
        if not line:  # This marks the end of candidates; aiortc raises on it.
            return
        candidate = candidate_from_sdp(line.split(":", 1)[-1])
        candidate.sdpMid, candidate.sdpMLineIndex = message.get("sdpMid"), message.get("sdpMLineIndex")
        await self.pc.addIceCandidate(candidate)

    def on_track(self, track):
        name = f"{self.sender}/{self.tracks}" if self.tracks else self.sender
        self.tracks += track.kind == "video"
        self.spawn(self.watch(track, name))

    async def watch(self, track, name):
        """Receives every frame of a track. Audio is received and dropped, because its queue would grow otherwise."""
        recorder, first = None, True
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if track.kind != "video":
                continue
            if first:
                took = time.monotonic() - self.offered
                say(f"{name}: {frame.width}x{frame.height}, first frame {took:.2f} s after the offer")
            try:
                recorder = recorder or self.receiver.output.recorder(name)
                if recorder:
                    await asyncio.get_running_loop().run_in_executor(None, recorder.write, frame, first)
            except Exception as error:
                return self.receiver.fail(f"recording {name} failed: {error}")
            first = False
            self.receiver.on_frame(name, frame)

    def on_state(self):
        if not self.closed and self.pc.connectionState in ("connected", "failed", "closed"):
            self.receiver.on_media(self, self.pc.connectionState)

    async def send(self, message):
        if not self.closed:
            await self.receiver.signaling.send({**message, "target_id": self.sender, "session_id": self.session_id})

    async def close(self, tell=False):
        if tell:
            await self.send({"type": "bye"})
        self.closed = True
        for task in self.tasks:
            task.cancel()
        await self.pc.close()


class Offer:
    """An offer without the streams that aiortc can't decode: one such stream makes aiortc refuse the whole offer."""

    def __init__(self, sdp, known):
        """`known`: the codecs of aiortc as media types in lower case."""
        self.head, *self.sections = re.split(r"\r?\n(?=m=)", sdp.rstrip() + "\r\n")
        self.refused = [not self.is_known(section, known) for section in self.sections]
        if all(self.refused):  # The error of aiortc then names what it lacks.
            self.refused = [False for _ in self.sections]

    @staticmethod
    def codecs(section):
        return re.findall(r"^a=rtpmap:\d+ ([^/\s]+)", section, re.MULTILINE)

    @classmethod
    def is_known(cls, section, known):
        kind = section[2:].split(" ")[0]
        names = cls.codecs(section)
        return kind not in ("audio", "video") or not names or any(
            f"{kind}/{name}".lower() in known and name.lower() != "rtx" for name in names)

    def refused_codecs(self):
        return [self.codecs(section)[0] for section, refused in zip(self.sections, self.refused) if refused]

    def accepted(self, kind):
        return sum(section.startswith(f"m={kind} ") for section, refused in zip(self.sections, self.refused) if not refused)

    def text(self):
        mids = {self.mid(section) for section, refused in zip(self.sections, self.refused) if refused}
        lines = [
            " ".join(word for word in line.split(" ") if word not in mids) if line.startswith("a=group:BUNDLE") else line
            for line in self.head.splitlines()
        ]
        kept = [section.rstrip("\r\n") for section, refused in zip(self.sections, self.refused) if not refused]
        return "\r\n".join(["\r\n".join(lines), *kept, ""])

    def complete(self, answer):
        """The answer with a rejected line for each stream that was left out."""
        head, *answered = re.split(r"\r?\n(?=m=)", answer.rstrip("\r\n"))
        lines = []
        for section, refused in zip(self.sections, self.refused):
            if refused:
                kind, _, *rest = section.splitlines()[0].split(" ")
                mid = self.mid(section)
                attributes = [f"a=mid:{mid}"] if mid else []
                lines.append("\r\n".join([" ".join([kind, "0", *rest]), "c=IN IP4 0.0.0.0", *attributes, "a=inactive"]))
            elif answered:
                lines.append(answered.pop(0))
        return "\r\n".join([head, *lines, ""])

    @staticmethod
    def mid(section):
        found = re.search(r"^a=mid:(\S+)", section, re.MULTILINE)
        return found and found[1]


class Output:
    """What happens to decoded frames: they are counted, printed and recorded, by track."""

    def __init__(self, options):
        self.record = Path(options.record) if options.record else None
        self.counts, self.recorders = {}, {}

    def count(self, name, frame):
        entry = self.counts.setdefault(name, {"frames": 0, "printed": 0})
        entry["frames"] += 1
        entry["size"] = f"{frame.width}x{frame.height}"

    def total(self):
        return sum(entry["frames"] for entry in self.counts.values())

    async def print_stats(self):
        last = time.monotonic()
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for name, entry in self.counts.items():
                fps = (entry["frames"] - entry["printed"]) / (now - last)
                entry["printed"] = entry["frames"]
                print(f"{name}: {fps:.1f} fps, {entry['size']}, {entry['frames']} frames", flush=True)
            last = now

    def recorder(self, name):
        """The recorder of a track: the first file has the requested name, others have a number in it."""
        if self.record and name not in self.recorders:
            number = len(self.recorders) + 1
            path = self.record if number == 1 else self.record.with_stem(f"{self.record.stem}-{number}")
            say(f"{name}: recording to {path}")
            self.recorders[name] = Recorder(path)
        return self.recorders.get(name)

    def close(self):
        """Finishes the files, and returns the errors."""
        errors = []
        for recorder in self.recorders.values():
            try:
                recorder.close()
            except Exception as error:
                errors.append(error)
        return errors


class Recorder:
    """Writes the frames of one track into a file as H.264, across restarts of its sender."""

    def __init__(self, path):
        self.file = av.open(str(path), "w")
        self.stream, self.started, self.offset, self.last = None, 0.0, 0, -1
        self.lock = threading.Lock()

    def write(self, frame, first):
        """Encodes a frame; call it in a separate thread, because it takes milliseconds. `first`: a new session begins."""
        with self.lock:
            if self.stream is None:
                self.start(frame)
            # Timestamps start anywhere, so the first of each session is placed by the clock.
            ticks = int(frame.pts * frame.time_base * 90_000)
            if first:
                self.offset = int((time.monotonic() - self.started) * 90_000) - ticks
            self.last = max(self.last + 1, ticks + self.offset)
            picture = frame.reformat(self.stream.width, self.stream.height, "yuv420p")
            picture.pts, picture.time_base = self.last, Fraction(1, 90_000)
            picture.pict_type = av.video.frame.PictureType.NONE  # The encoder chooses.
            self.file.mux(self.stream.encode(picture))

    def start(self, frame):
        options = {"preset": "veryfast", "tune": "zerolatency"}
        self.stream = self.file.add_stream("libx264", rate=30, options=options)
        self.stream.width, self.stream.height = frame.width & ~1, frame.height & ~1
        self.stream.pix_fmt, self.stream.gop_size = "yuv420p", 60
        self.stream.codec_context.time_base = Fraction(1, 90_000)
        self.started = time.monotonic()

    def close(self):
        with self.lock:
            if self.stream is not None:
                self.file.mux(self.stream.encode())
            self.file.close()


def say(text):
    print(text, file=sys.stderr, flush=True)


def server_uri(options, room):
    """The WebSocket of the server, with the room in its query and with the port that the address implies.

    An address without port and path means port 8765, because that is the server's own. One with a path means the port of
    its scheme, 80 or 443, because such an address leads to a proxy.
    """
    host = f"[{options.server_ip}]" if ":" in options.server_ip else options.server_ip
    wanted = options.uri or f"ws://{host}:{options.server_port}"
    wrong = f"--uri {wanted} is no server address; write it like ws://host:8765 or wss://host/path"
    try:
        uri = urlsplit(wanted if "://" in wanted else f"ws://{wanted}")
        host, port = uri.hostname, uri.port
    except ValueError as error:
        raise Failed(f"{wrong} ({error})") from error
    if uri.scheme not in ("ws", "wss") or not host:
        raise Failed(wrong)
    if "@" in uri.netloc:
        raise Failed("--uri has no user and password; use --token and --password")
    netloc = uri.netloc.rstrip(":") + (f":{DEFAULT_PORT}" if port is None and uri.path in ("", "/") else "")
    named = "room" in parse_qs(uri.query, keep_blank_values=True)
    query = "&".join(filter(None, [uri.query, None if named else f"room={quote(room, safe='')}"]))
    return urlunsplit((uri.scheme, netloc, uri.path or "/", query, ""))


def trust(ca_file):
    """Trusts the authorities of the system and those in the file."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Failed(f"--tls-ca-file {ca_file} is no PEM file of certificates: {error}") from error
    return context


def with_scheme(address, scheme):
    return address if address.startswith((f"{scheme}:", f"{scheme}s:")) else f"{scheme}:{address}"


def own_ice_servers(options):
    """Those of the options. They come first, because aiortc uses one STUN and one TURN server only."""
    stun = [RTCIceServer(urls=[with_scheme(options.stun, "stun")])] if options.stun else []
    turn = [RTCIceServer([with_scheme(options.turn, "turn")], options.turn_user, options.turn_pass)] if options.turn else []
    return stun + turn


async def receive(options):
    """Runs until Ctrl-C, --frames or --timeout; raises `Failed` unless that is a success."""
    receiver = Receiver(options)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, receiver.done.set)
        except NotImplementedError:  # On Windows, Ctrl-C raises KeyboardInterrupt.
            pass
    run, done = asyncio.ensure_future(receiver.signaling.run()), asyncio.ensure_future(receiver.done.wait())
    stats = asyncio.ensure_future(receiver.output.print_stats()) if options.stats else None
    timeout = options.timeout if options.frames else None
    try:
        await asyncio.wait([run, done], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await receiver.close()
        for task in filter(None, (done, stats)):
            task.cancel()
        if not run.done():
            run.cancel()  # Sends what is queued and closes the WebSocket.
            await asyncio.wait([run], timeout=3)
    if not run.cancelled() and run.done() and run.exception():
        raise run.exception()
    if receiver.failure:
        raise receiver.failure
    if options.frames and receiver.output.total() < options.frames:
        raise Failed(f"only {receiver.output.total()} of {options.frames} frames arrived from room {options.room_id}")
    say(f"{receiver.output.total()} frames received")


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--server-ip", default="127.0.0.1", metavar="HOST", help="signaling server (%(default)s)")
    add("--server-port", type=int, default=8765, metavar="PORT", help="its port (%(default)s)")
    add("--uri", help="ws:// or wss:// address of the server instead of the two; with a path, the port is 80 or 443 unless given")
    add("--tls-ca-file", metavar="FILE", help="PEM file of certificate authorities to trust besides those of the system, for wss")
    add("--client-id", metavar="ID", help="name of this receiver in the room (random)")
    add("--room-id", default="room_default", metavar="ROOM", help="room to receive from (%(default)s)")
    add("--token", default=os.environ.get("ROOM_TOKEN"),
        help="token, for servers that require one; other users of the machine can't see it in the variable ROOM_TOKEN")
    add("--password", default=os.environ.get("ROOM_PASSWORD"),
        help="password of the room, if it has one; better in the variable ROOM_PASSWORD")
    add("--stun", metavar="HOST:PORT", help="STUN server, used before those of the signaling server")
    add("--turn", metavar="HOST:PORT", help="TURN server, used before those of the signaling server; also turn:HOST:PORT?transport=tcp")
    add("--turn-user", metavar="NAME")
    add("--turn-pass", metavar="SECRET")
    add("--codec", choices=["h264", "vp8"], default="h264", help="preferred codec, if the sender offers both (%(default)s)")
    add("--record", metavar="FILE", help="write the video into FILE (.mp4 or .mkv); further senders: FILE-2 and so on")
    add("--frames", type=int, metavar="N", help="end with success after N decoded frames")
    add("--timeout", type=float, default=30, metavar="SECONDS", help="with --frames: fail after this time (%(default)s)")
    add("--stats", action="store_true", help="print the frames per second of every track once a second")
    options = parser.parse_args(arguments)
    if options.record and Path(options.record).suffix not in (".mp4", ".mkv"):
        parser.error("--record needs a name that ends in .mp4 or .mkv")
    return options


if __name__ == "__main__":
    try:
        asyncio.run(receive(parse()))
    except Failed as failure:
        sys.exit(f"receiver.py: {failure}")
    except KeyboardInterrupt:
        pass
