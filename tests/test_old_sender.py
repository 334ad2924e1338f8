"""A sender from before protocol version 1, which only registers and offers, streams to current receivers."""

import pytest

from bed import frames
from bed.bed import PROGRAMS, PYTHON, Bed
from bed.process import wait_until

# The room of clients that join no room.
ROOM = "room_default"


# aiortc is not among the receivers, because it does not support the RSA certificate of a plain webrtcbin.
@pytest.mark.parametrize("kind", ["receiver", "browser"])
def test_the_picture_of_an_old_sender_arrives(bed: Bed, kind: str):
    receiver = getattr(bed, kind)(ROOM)
    wait_until("the receiver is in the room", lambda: len(bed.members(ROOM)) == 1)
    sender = bed.start("old-sender", [PYTHON, str(PROGRAMS / "old_sender.py"), bed.uri, "cpp"], bed.network.senders)
    frames.check_flow(frames.watch(receiver, 3), 3)
    assert {e["type"] for e in sender.of("signaling")} <= {"registered", "answer", "candidate"}
