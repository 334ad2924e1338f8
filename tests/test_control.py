"""Applications observe and control their receivers: signals, actions, properties, messages on the bus."""

from bed import frames
from bed.bed import Bed
from bed.process import Process


def gone(sender: Process, peer: str, reason: str) -> None:
    """Waits until a receiver was removed for this reason, on the signal and on the bus."""
    sender.wait_for("signal", name="receiver-removed", id=peer, detail=reason)
    sender.wait(f"room-receiver-removed {peer}", lambda: any(
        e["name"] == "room-receiver-removed" and e["id"] == peer and e["reason"] == reason
        for e in sender.of("bus", kind="element")))


def test_a_receiver_is_announced_described_and_kicked(bed: Bed):
    sender = bed.sender("living_room")
    kicked, stays = bed.receiver("living_room", "kicked"), bed.receiver("living_room", "stays")
    for receiver in (kicked, stays):
        frames.wait_first(receiver)
        sender.wait_for("signal", name="receiver-added", id="kicked")
    assert sender.ask("get", element="room", property="assigned-client-id") == "camera"
    stats = sender.ask("get", element="room", property="stats")
    assert stats["frames"] > 0 and stats["keyframes"] > 0
    assert "state=(string)connected" in stats["text"].replace("\\", "") and bed.receivers_of(sender) == {"kicked", "stays"}

    sender.ask("emit", element="room", signal="kick", arguments=["kicked"])
    gone(sender, "kicked", "kicked")
    frames.check_flow(frames.watch(stays, 2), 2)
    assert bed.receivers_of(sender) == {"stays"}


def join(member: Process, **more: object) -> None:
    """Sends another join of the same room."""
    member.ask("send", message={"type": "join", "room_id": "living_room", "role": "receiver", **more})


def offers(member: Process) -> int:
    return len(member.of("message", type="offer"))


def asked(sender: Process, peer: str, meta: str | None = None) -> None:
    """Waits until the application was asked about a receiver with this meta."""
    sender.wait_for("signal", name="authorize-receiver", id=peer, detail=meta)


def test_a_kicked_receiver_gets_no_offer_whatever_it_sends(bed: Bed):
    sender = bed.sender("living_room")
    guest = bed.member("living_room", "guest")
    guest.wait("an offer", lambda: offers(guest))
    sender.ask("emit", element="room", signal="kick", arguments=["guest"])
    gone(sender, "guest", "kicked")
    guest.wait_for("message", type="bye")
    join(guest)
    join(guest, meta={"battery": 80})
    guest.ask("send", message={"type": "leave"})
    join(guest)
    # The sender learns of members in order: when this one has media, the sender has handled the joins of the other.
    frames.wait_first(bed.receiver("living_room", "friend"))
    assert offers(guest) == 1
    assert bed.receivers_of(sender) == {"friend"}


def test_a_refused_receiver_is_authorized_again_when_its_meta_changes(bed: Bed):
    sender = bed.sender("living_room", options=("--refuse=stranger", '--refuse=guest:"away"'))
    stranger, guest = bed.member("living_room", "stranger"), bed.member("living_room", "guest")
    guest.wait("an offer", lambda: offers(guest))
    join(stranger)
    join(stranger, meta={"battery": 80})
    asked(sender, "stranger", '{"battery":80}')
    join(guest, meta="here")
    asked(sender, "guest", '"here"')
    assert bed.receivers_of(sender) == {"guest"}, "an authorized change does not affect the session"
    join(guest, meta="away")
    gone(sender, "guest", "refused")
    guest.wait_for("message", type="bye")
    frames.wait_first(bed.receiver("living_room", "friend"))
    assert (offers(stranger), offers(guest)) == (0, 1)
    join(guest, meta="back")
    guest.wait("another offer", lambda: offers(guest) == 2)


def test_an_application_can_request_a_keyframe(bed: Bed):
    sender = bed.sender("living_room")
    before = sender.ask("counts")["encoder"]["keyframes"]
    sender.ask("emit", element="room", signal="request-keyframe")
    sender.wait("another keyframe", lambda: sender.ask("counts")["encoder"]["keyframes"] > before)


def test_the_data_channel_carries_bytes_in_both_directions(bed: Bed):
    sender = bed.sender("living_room", more="data-channel=true")
    receiver = bed.old_client("living_room", "talker")
    frames.wait_first(receiver)

    def asked_and_answered() -> bool:
        # The data channel opens shortly after the media.
        sender.ask("emit", element="room", signal="send-data", arguments=["talker", {"bytes": "grüße"}])
        return bool(sender.of("signal", name="data", id="talker"))

    sender.wait("the echo", asked_and_answered)
    assert receiver.of("data")[0]["text"] == "grüße"
    echo = sender.of("signal", name="data", id="talker")[0]
    assert (echo["detail"], echo["text"]) == ("room", "GRÜSSE")


def test_an_unauthorized_receiver_gets_no_offer(bed: Bed):
    sender = bed.sender("living_room", options=("--refuse=stranger",))
    stranger, friend = bed.old_client("living_room", "stranger"), bed.receiver("living_room", "friend")
    frames.wait_first(friend)
    frames.watch(friend, 1)
    assert bed.receivers_of(sender) == {"friend"}
    assert not [e for e in stranger.of("signaling") if e["type"] == "offer"]


def test_max_receivers_limits_the_sessions(bed: Bed):
    sender = bed.sender("living_room", more="max-receivers=1")
    first = bed.receiver("living_room", "first")
    frames.wait_first(first)
    second = bed.receiver("living_room", "second")
    bed.wait_members("living_room", {"camera", "first", "second"})
    frames.watch(first, 1)
    assert bed.receivers_of(sender) == {"first"}
    first.stop()
    frames.wait_first(second)


def test_a_sender_with_a_target_id_serves_that_receiver_only(bed: Bed):
    sender = bed.sender("living_room", more="target-id=chosen")
    other, chosen = bed.old_client("living_room", "other"), bed.receiver("living_room", "chosen")
    frames.wait_first(chosen)
    assert bed.receivers_of(sender) == {"chosen"}
    assert not [e for e in other.of("signaling") if e["type"] == "offer"]
