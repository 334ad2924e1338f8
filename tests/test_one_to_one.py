"""One sender and one receiver of each kind: the correct pictures, at the full rate."""

import pytest

from bed import frames, network
from bed.bed import DECODE_ANY, PORT, VP8, X264, Bed, picture

SECONDS = 10
codecs = pytest.mark.parametrize("encoder", [X264, VP8], ids=["h264", "vp8"])


@codecs
def test_roomwebrtcsrc_receives_every_picture(bed: Bed, encoder: str):
    bed.sender("living_room", encoder=encoder)
    receiver = bed.receiver("living_room", decode=DECODE_ANY)
    frames.check_flow(frames.watch(receiver, SECONDS), SECONDS)


@codecs
def test_chromium_receives_every_picture(bed: Bed, encoder: str):
    bed.sender("living_room", encoder=encoder)
    browser = bed.browser("living_room")
    frames.check_flow(frames.watch(browser, SECONDS), SECONDS)
    assert not browser.of("page-error")


@codecs
def test_an_old_client_on_aiortc_receives_every_picture(bed: Bed, encoder: str):
    bed.sender("living_room", encoder=encoder)
    old = bed.old_client("living_room")
    frames.check_flow(frames.watch(old, SECONDS), SECONDS)
    types = {e["type"] for e in old.of("signaling")}
    assert types <= {"registered", "joined", "offer", "candidate"}, "an old client must get no unknown message type"


def test_a_receiver_that_joins_before_the_sender_receives(bed: Bed):
    receiver = bed.receiver("living_room")
    bed.sender("living_room")
    frames.check_flow(frames.watch(receiver, 3), 3)


def test_a_browser_watches_a_sender_with_an_embedded_server(empty_bed: Bed):
    listen = f"{network.SENDERS}:{PORT}"
    empty_bed.pipeline("alone", f"{picture()} ! {X264} ! roomwebrtcsink name=room room=living_room "
                                f"run-signaling-server=true signaling-server-listen={listen}")
    browser = empty_bed.browser("living_room")
    frames.check_flow(frames.watch(browser, 3), 3)


def test_uridecodebin_plays_a_room_uri(bed: Bed):
    bed.sender("living_room")
    receiver = bed.pipeline(
        "by-uri", f"uridecodebin uri=room://{network.SENDERS}:{PORT}/living_room ! videoconvert ! video/x-raw,format=I420 "
                  "! appsink name=frames sync=false async=false", receiving=True)
    frames.check_flow(frames.watch(receiver, 3), 3)


def test_a_stream_is_relayed_into_another_room_without_decoding(bed: Bed):
    bed.sender("a")
    bed.pipeline("relay", f"roomwebrtcsrc name=room room=a client-id=relay signaling-uri={bed.uri} ! queue "
                          f"! roomwebrtcsink room=b client-id=relay signaling-uri={bed.uri}")
    receiver = bed.receiver("b")
    frames.check_flow(frames.watch(receiver, 3), 3)
