"""The viewer page in a real browser: the servers to which it sends secrets, the members from which it accepts media, and how it
shows faults of senders and of server settings."""

import subprocess

import pytest

from bed import frames
from bed.bed import PROGRAMS, PYTHON, RELEASE, VP8, X264, Bed, picture
from bed.process import Process

PASSWORD = "correct horse"
# Another address of the server, which is a different host for a browser.
OTHER = "10.77.0.3"


def offer(codec: str = "VP8") -> str:
    """A session description that a browser accepts, without a real peer."""
    fingerprint = ":".join(["00"] * 32)
    return ("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n"
            "a=mid:0\r\na=setup:actpass\r\na=sendonly\r\na=rtcp-mux\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n"
            f"a=fingerprint:sha-256 {fingerprint}\r\na=rtpmap:96 {codec}/90000\r\n")


def viewer(browser: Process) -> dict:
    return browser.ask("viewer")


def sessions(browser: Process) -> dict[str, dict]:
    return {session["sender"]: session for session in viewer(browser)["sessions"]}


def joined(browser: Process) -> Process:
    browser.wait("the room", lambda: viewer(browser)["signaling"]["state"] == "joined")
    return browser


@pytest.fixture
def stranger(empty_bed: Bed) -> Bed:
    """A bed with a second server that has a room with a password, on a host other than that of the page."""
    program = str(RELEASE / "room-signaling")
    hashed = subprocess.run([program, "hash-password"], input=f"{PASSWORD}\n{PASSWORD}\n", check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run(empty_bed.network.within(empty_bed.network.server, ["ip", "addr", "add", f"{OTHER}/24", "dev", "net0"]), check=True)
    config = empty_bed.logs / "stranger.toml"
    config.write_text(f'listen = "{OTHER}:8765"\nallow_origins = ["*"]\n[[rooms]]\nname = "lab"\npassword_hash = "{hashed}"\n')
    empty_bed.start("stranger", [program, "serve", "--config", str(config)], empty_bed.network.server)
    empty_bed.start_server()
    return empty_bed


def test_another_server_gets_a_password_only_after_the_user_confirmed_its_name(stranger: Bed):
    browser = stranger.browser(f"lab&server=ws://{OTHER}")
    browser.wait("the refusal", lambda: viewer(browser)["signaling"]["wants"] == "password")
    assert not browser.ask("visible", selector="#password")
    question = browser.ask("text", selector="#confirm")
    assert f"{OTHER}:8765" in question and "10.77.0.1" in question
    browser.ask("click", selector="#confirm [value=yes]")
    assert f"{OTHER}:8765" in browser.ask("text", selector="#secrets")
    assert browser.ask("attribute", selector="#password", name="autocomplete") == "off"
    browser.ask("enter", selector="#password", text=PASSWORD)
    joined(browser)
    assert f"{OTHER}:8765" in browser.ask("text", selector="#status")


def test_secrets_of_a_link_to_another_server_wait_for_confirmation(stranger: Bed):
    link = f"lab&server=ws://{OTHER}#password=correct+horse"
    browser = stranger.browser(link)
    browser.wait("the question", lambda: browser.ask("visible", selector="#confirm"))
    assert viewer(browser)["signaling"]["state"] == "stopped"
    browser.ask("click", selector="#confirm [value=yes]")
    joined(browser)
    # If the user declines, the page connects without the secret, and asks for it with the name of the server.
    other = stranger.browser(link)
    other.wait("the question", lambda: other.ask("visible", selector="#confirm"))
    other.ask("click", selector="#confirm [value=no]")
    other.wait("the refusal", lambda: viewer(other)["signaling"]["wants"] == "password")
    assert not other.ask("visible", selector="#password")


def test_secrets_leave_the_address_bar_and_survive_a_reload(bed: Bed):
    browser = joined(bed.browser("living_room#token=secret-token&password=p"))
    assert "secret" not in viewer(browser)["url"] and "#" not in viewer(browser)["url"]
    browser.ask("reload")
    joined(browser)
    assert browser.ask("evaluate", expression="history.state.secrets.token") == "secret-token"


def test_offers_of_receivers_are_ignored(bed: Bed):
    browser = joined(bed.browser("living_room&id=page"))
    impostor, camera = bed.member("living_room", "impostor", "receiver"), bed.member("living_room", "camera", "sender")
    impostor.ask("send", message={"type": "offer", "target_id": "page", "session_id": "s1", "sdp": offer()})
    camera.ask("send", message={"type": "offer", "target_id": "page", "session_id": "s2", "sdp": offer()})
    camera.wait_for("message", type="answer")
    assert set(sessions(browser)) == {"camera"}
    assert not impostor.of("message", type="answer")


def test_a_camera_that_the_browser_cannot_play_does_not_disturb_others(bed: Bed):
    bed.sender("living_room", "good")
    browser = bed.browser("living_room&id=page")
    frames.wait_first(browser)
    first = sessions(browser)["good"]["sessionId"]
    odd = bed.member("living_room", "odd", "sender")
    for number in range(3):
        odd.ask("send", message={"type": "offer", "target_id": "page", "session_id": f"s{number}", "sdp": offer("XYZ")})
        browser.wait("the reason", lambda n=number: sessions(browser).get("odd", {}).get("sessionId") == f"s{n}"
                     and sessions(browser)["odd"]["state"] == "failed")
    assert "odd" in browser.ask("text", selector="#grid") and "browser" in browser.ask("text", selector="[data-sender=odd] .state")
    # A camera that never connects gets a request for another offer, and the working camera is not interrupted.
    odd.ask("send", message={"type": "offer", "target_id": "page", "session_id": "silent", "sdp": offer()})
    browser.wait("the time-out", lambda: odd.of("message", type="bye", session_id="silent"), 45)
    odd.wait("the request", lambda: any(e.get("meta") for e in odd.of("message", type="peer_joined", client_id="page")))
    frames.check_flow(frames.watch(browser, 2), 2)
    assert sessions(browser)["good"]["sessionId"] == first


def test_a_supported_stream_is_shown_next_to_an_unsupported_one(bed: Bed):
    bed.pipeline("camera", f"{bed.sink('living_room')} {picture()} ! {VP8} ! room.video_0 "
                 f"videotestsrc is-live=true ! {X264.replace('name=encoder ', '')} ! room.video_1",
                 "--source=1")
    browser = bed.browser("living_room&id=page", without_codec="H264")
    frames.wait_first(browser)
    frames.check_flow(frames.watch(browser, 2), 2)
    assert "H264" in browser.ask("text", selector="[data-track='1'] .state")


def test_a_bad_ice_url_is_reported_and_other_servers_are_used(bed: Bed):
    browser = joined(bed.browser("living_room&id=page", bad_ice_server=True))
    camera = bed.member("living_room", "camera", "sender")
    camera.ask("send", message={"type": "offer", "target_id": "page", "session_id": "s", "sdp": offer()})
    camera.wait_for("message", type="answer")
    assert "stun:" in browser.ask("text", selector="[data-sender=camera] .state")
    camera.ask("send", message={"type": "bye", "target_id": "page", "session_id": "s"})
    bed.sender("living_room", "good")
    frames.wait_first(browser)
    assert not browser.of("page-error")
