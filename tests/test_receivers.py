"""More receivers than fit, many at once, and receivers that go while the server is away."""

import contextlib
import signal
import threading

from bed import frames
from bed.bed import PROGRAMS, PYTHON, Bed
from bed.process import Process, wait_until


@contextlib.contextmanager
def slowed_down(process: Process):
    """A small machine: the process runs for 15 of each 150 ms."""
    over = threading.Event()

    def throttle() -> None:
        while not over.is_set():
            process.send_signal(signal.SIGSTOP)
            over.wait(0.135)
            process.send_signal(signal.SIGCONT)
            over.wait(0.015)

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def log_of(process: Process) -> str:
    return process.log.read_text(errors="replace")


def test_a_sender_on_a_slow_machine_offers_to_each_of_fifty_receivers(bed: Bed):
    room = bed.start("crowd", [PYTHON, str(PROGRAMS / "waiting_room.py"), bed.uri, "living_room", "50"], bed.network.receivers)
    room.wait("all in the room", lambda: len(room.of("joined")) == 50)
    sender = bed.gst_launch("sender", "videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=5/1 ! "
                            f"x264enc tune=zerolatency speed-preset=ultrafast ! {bed.sink('living_room')}")
    with slowed_down(sender):
        room.wait("an offer for each", lambda: len({e["id"] for e in room.of("offer")}) == 50, 60)
    assert len(room.of("offer")) == 50, "no session was thrown away and made anew"
    assert "no address of this machine" not in log_of(sender)


def test_receivers_beyond_the_ports_wait_for_one(bed: Bed):
    sender = bed.sender("living_room", more="min-rtp-port=50000 max-rtp-port=50001")
    first, second = bed.receiver("living_room", "first"), bed.receiver("living_room", "second")
    for served in (first, second):
        frames.wait_first(served)
    third = bed.receiver("living_room", "third")
    sender.wait("words about the port", lambda: "no UDP port is free" in log_of(sender))
    assert "third waits" in log_of(sender)
    assert bed.receivers_of(sender) == {"first", "second"}
    frames.watch(second, 1)
    first.stop()
    frames.wait_first(third)
    assert bed.receivers_of(sender) == {"second", "third"}
    assert log_of(sender).count("no UDP port is free") == 1, "once, not with every attempt"


def test_no_session_is_started_while_the_server_is_away(bed: Bed):
    sender = bed.sender("living_room", more="receiver-timeout=1000")
    watcher = bed.receiver("living_room", "watcher")
    frames.wait_first(watcher)
    bed.kill(bed.server)
    bed.wait_state(sender, "reconnecting")
    bed.kill(watcher)
    sender.wait_for("signal", name="receiver-removed", id="watcher", detail="timeout")
    bed.start_server()
    bed.wait_state(sender)
    frames.wait_first(bed.receiver("living_room", "newcomer"))
    assert len(sender.of("signal", name="receiver-added", id="watcher")) == 1


def test_a_receiver_that_never_answers_does_not_keep_the_only_place(bed: Bed):
    sender = bed.sender("living_room", more="max-receivers=1")
    mute = bed.member("living_room", "mute")
    mute.wait_for("message", type="offer")
    frames.wait_first(bed.receiver("living_room", "watcher"), 15)
    sender.wait_for("signal", name="receiver-removed", id="mute", detail="no answer")
    wait_until("the only receiver", lambda: bed.receivers_of(sender) == {"watcher"}, 10)
