"""Receivers answer offers of senders only. The server of the test relays any offer, as the real one does for old clients."""

import pytest

from bed.bed import PROGRAMS, PYTHON, Programs
from scripted_server import Member, Server, about, sender


@pytest.fixture
def server():
    started = Server()
    yield started
    started.close()


def roomwebrtcsrc(server: Server, programs: Programs) -> None:
    uri = f"ws://127.0.0.1:{server.port}"
    programs.pipeline("watcher", f"roomwebrtcsrc name=room room=living_room signaling-uri={uri} ! fakesink")


def page(server: Server, programs: Programs) -> None:
    programs.run("browser", [PYTHON, str(PROGRAMS / "browser.py"), f"http://127.0.0.1:{server.port}/?room=living_room"])


@pytest.mark.parametrize("receiver", [roomwebrtcsrc, page])
def test_a_receiver_answers_offers_of_senders_only(receiver, server: Server, programs: Programs):
    receiver(server, programs)
    member = Member(server, [sender("camera"), {**sender("other"), "role": "receiver"}])
    for impostor in ("other", "stranger"):
        member.offer(impostor, "s1")
    member.offer("camera", "s2")
    answer = next(message for message in iter(member.next, None) if message["type"] in ("answer", "bye"))
    assert about(answer) == ("answer", "camera", "s2")
