"""receiver.py against a server of the test: whose offers it answers, how it gets new offers, and which address it connects to."""

import importlib.util
import json
import signal
import subprocess
import sys

import pytest

from bed.bed import ROOT
from scripted_server import OFFER, TIMEOUT, Member, Server, about, sender

PROGRAM = ROOT / "pipelines" / "receiver.py"
# Runs a program with the loopback address as its address for media, so that the machine needs no other one. By default, aiortc
# does not use it.
ON_LOOPBACK = """
import aioice.ice, runpy, sys
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# The same from a peer that has an IPv6 address only, which no address of the program can reach: ICE fails immediately.
HOPELESS_OFFER = OFFER + "a=candidate:1 1 udp 2130706431 2001:db8::1 9 typ host\r\na=end-of-candidates\r\n"


@pytest.fixture
def server():
    started = Server()
    yield started
    started.close()


@pytest.fixture
def program(server):
    options = ["--uri", f"ws://127.0.0.1:{server.port}", "--room-id", "living_room"]
    started = subprocess.Popen([sys.executable, "-c", ON_LOOPBACK, str(PROGRAM), *options], stderr=subprocess.PIPE, text=True)
    yield started
    started.kill()
    started.communicate()


def test_offers_are_answered_if_they_are_of_senders(server, program):
    member = Member(server, [sender("camera"), {**sender("watcher"), "role": "receiver"}])
    for impostor in ("watcher", "stranger"):
        member.offer(impostor, "s1")
    member.offer("camera", "s2")
    assert about(member.next()) == ("answer", "camera", "s2")

    member.send(type="peer_joined", **sender("late"))
    member.offer("late", "s3")
    assert about(member.next()) == ("answer", "late", "s3")

    member.send(type="peer_joined", **{**sender("late"), "role": "receiver"})
    member.offer("late", "s4")
    member.offer("camera", "s5")
    assert about(member.next()) == ("answer", "camera", "s5")


def test_any_member_may_offer_if_the_server_announces_nobody(server, program):
    member = Member(server, [])
    member.send(type="joined", room_id="living_room", role="receiver")
    member.offer("camera", "s1")
    assert about(member.next()) == ("answer", "camera", "s1")


def test_a_failed_session_is_renewed_by_another_meta_and_other_sessions_stay(server, program):
    member = Member(server, [sender("broken"), sender("camera")])
    assert "meta" not in member.join
    member.offer("camera", "s1")
    assert about(member.next()) == ("answer", "camera", "s1")
    member.offer("broken", "s2", HOPELESS_OFFER)
    assert about(member.next()) == ("answer", "broken", "s2")

    assert about(member.next()) == ("bye", "broken", "s2")
    for count in (1, 2):
        again = member.next()
        assert again == {**member.join, "meta": {"offers_requested": count}}
        member.joined([sender("broken"), sender("camera")])

    member.offer("broken", "s3")
    assert about(member.next()) == ("answer", "broken", "s3")
    # The session with the other sender is still the first one: its end is announced.
    program.send_signal(signal.SIGINT)
    byes = {about(member.next()), about(member.next())}
    assert byes == {("bye", "camera", "s1"), ("bye", "broken", "s3")}
    assert member.next()["type"] == "leave"
    assert program.wait(TIMEOUT) == 0


def test_a_failed_session_without_any_other_is_renewed_by_joining_again(server, program):
    member = Member(server, [sender("broken")])
    member.offer("broken", "s1", HOPELESS_OFFER)
    assert [member.next()["type"] for _ in range(4)] == ["answer", "bye", "leave", "join"]
    # The server confirms; the program takes this for no removal, and stays connected.
    member.send(type="left", room_id="living_room")
    member.joined([sender("broken")])
    member.offer("broken", "s2")
    assert about(member.next()) == ("answer", "broken", "s2")


def test_a_receiver_that_is_removed_connects_again_and_ends_with_the_reason(server, program):
    member = Member(server, [])
    member.send(type="left", room_id="living_room")
    socket, messages = server.connections.get(timeout=TIMEOUT)
    assert [messages.get(timeout=TIMEOUT)["type"] for _ in range(2)] == ["register", "join"]
    socket.send(json.dumps({"type": "error", "code": "forbidden", "request": "join", "message": "removed by the operator"}))
    assert program.wait(TIMEOUT) == 1
    assert "removed by the operator" in program.stderr.read()


@pytest.fixture(scope="module")
def module():
    """receiver.py as a module."""
    spec = importlib.util.spec_from_file_location("receiver", PROGRAM)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("options, uri", [
    ([], "ws://127.0.0.1:8765/?room=lab"),
    (["--server-ip", "192.168.1.5", "--server-port", "80"], "ws://192.168.1.5:80/?room=lab"),
    (["--server-ip", "::1"], "ws://[::1]:8765/?room=lab"),
    (["--uri", "host"], "ws://host:8765/?room=lab"),
    (["--uri", "wss://host"], "wss://host:8765/?room=lab"),
    (["--uri", "wss://host/"], "wss://host:8765/?room=lab"),
    (["--uri", "ws://[2001:db8::1]"], "ws://[2001:db8::1]:8765/?room=lab"),
    (["--uri", "wss://host/ws"], "wss://host/ws?room=lab"),
    (["--uri", "ws://host/ws"], "ws://host/ws?room=lab"),
    (["--uri", "wss://host:443"], "wss://host:443/?room=lab"),
    (["--uri", "ws://host:80/ws"], "ws://host:80/ws?room=lab"),
    (["--uri", "ws://host/ws?key=1"], "ws://host/ws?key=1&room=lab"),
    (["--uri", "ws://host/ws?room=hall"], "ws://host/ws?room=hall"),
])
def test_an_address_with_a_path_uses_the_port_of_its_scheme_and_others_8765(module, options, uri):
    assert module.server_uri(module.parse(options), "lab") == uri


def test_the_room_in_the_address_is_percent_encoded(module):
    assert module.server_uri(module.parse([]), "客厅 &?") == "ws://127.0.0.1:8765/?room=%E5%AE%A2%E5%8E%85%20%26%3F"


@pytest.mark.parametrize("uri, reason", [
    ("http://host", "ws://host:8765"), ("ws://", "ws://host:8765"), ("ws://host:port", "ws://host:8765"),
    ("ws://user:secret@host", "--token and --password")])
def test_a_wrong_address_is_refused_with_the_fix(module, uri, reason):
    with pytest.raises(module.Failed, match=reason):
        module.server_uri(module.parse(["--uri", uri]), "lab")


def connected(module, *names):
    """The presence of senders whose media is connected."""
    presence = module.Presence()
    assert presence.joined([sender(name) for name in names], len(names), 0) == []
    for name in names:
        presence.media(name, "started")
        presence.media(name, "connected")
    return presence


def test_a_session_survives_a_reconnect_if_its_sender_is_the_same_process(module):
    presence = connected(module, "same", "restarted")
    assert presence.joined([sender("same"), sender("restarted", "e2")], 2, 100) == [("restarted", "restarted")]
    assert presence.deadline() is None


def test_a_session_outlives_the_absence_of_its_sender_for_30_seconds(module):
    presence = connected(module, "camera", "other")
    assert presence.joined([sender("other")], 1, 100) == []
    assert presence.deadline() == 130 and presence.expired(129.9) == []
    assert presence.present() == {"other"}
    assert presence.expired(130) == [("camera", "gone (did not come back)")]
    assert presence.deadline() is None and not presence.may_offer("camera")


def test_a_sender_that_is_back_in_time_keeps_its_session(module):
    presence = connected(module, "camera")
    presence.joined([], 0, 100)
    assert presence.peer_joined(sender("camera")) == []
    assert presence.deadline() is None and presence.expired(1000) == []


def test_a_list_that_was_cut_proves_no_sender_absent(module):
    presence = connected(module, "camera")
    assert presence.joined([], 5, 100) == [] and presence.deadline() is None
    assert presence.may_offer("anybody")


@pytest.mark.parametrize("media, reason, ends", [
    ("connected", "left", True), ("connected", "kicked", True), ("connected", "disconnected", False), ("connected", "timeout", False),
    ("started", "disconnected", True)])
def test_a_lost_signaling_connection_ends_no_connected_session(module, media, reason, ends):
    presence = connected(module, "camera")
    presence.media("camera", media)
    assert presence.peer_left("camera", reason) == ([("camera", f"gone ({reason})")] if ends else [])
