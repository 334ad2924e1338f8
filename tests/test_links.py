"""Links that are narrow or that change: each receiver gets what its own link carries, and a new path is found."""

import time

from bed import frames
from bed.bed import DECODE_H264, X264, Bed, picture

# Noise, which needs all of an encoder's bitrate: 2 Mbit/s.
NOISE = "videotestsrc is-live=true pattern=snow ! video/x-raw,format=I420,width=640,height=480,framerate=30/1 ! x264enc"


def _watcher(bed: Bed, client_id: str, *, receiving: bool):
    """A roomwebrtcsrc that decodes, on the side of the receivers or on that of the senders."""
    return bed.pipeline(
        client_id, f"roomwebrtcsrc name=room room=living_room client-id={client_id} signaling-uri={bed.uri}",
        f"--each-pad={DECODE_H264}", receiving=receiving)


def test_a_receiver_on_a_narrow_link_sees_fewer_pictures_and_the_other_sees_all(bed: Bed):
    bed.wait_state(bed.pipeline("camera", f"{NOISE} ! {bed.sink('living_room')}"))
    with bed.network.narrowed("1mbit"):
        free, slow = _watcher(bed, "free", receiving=False), _watcher(bed, "slow", receiving=True)
        for watcher in (free, slow):
            watcher.wait("pictures", lambda w=watcher: len(frames.frames(w)) > 10, 30)
        # The first reports about losses come after a second or two; then the sender keeps to the link.
        time.sleep(8)
        began, seconds = time.time(), 20
        time.sleep(seconds)
        of_free, of_slow = ([f["t"] for f in frames.frames(w, since=began)] for w in (free, slow))
    assert len(of_free) > 0.85 * 30 * seconds, "the others pay for one narrow link"
    # rtpsession postpones its reports while it sends NACKs and PLIs, sometimes for more than ten seconds; until a report
    # comes, the sender does not reduce the rate, and little more than IDR pictures arrives.
    assert len(of_slow) >= seconds / 2
    gaps = [later - earlier for earlier, later in zip(of_slow, of_slow[1:])]
    assert max(gaps) < 10, "the picture stood still"


def test_pictures_are_back_after_the_address_of_the_sender_has_changed(bed: Bed):
    """The sides are swapped: the server keeps its address, and the sender is where receivers are otherwise."""
    bed.wait_state(bed.pipeline("camera", f"{picture()} ! {X264} ! {bed.sink('living_room')}", "--source=1", receiving=True))
    watcher = _watcher(bed, "watcher", receiving=False)
    frames.wait_first(watcher)
    with bed.network.renumbered():
        changed = time.time()
        frames.wait_first(watcher, timeout=25, since=changed + 1)
