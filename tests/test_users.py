"""Users with tokens and rooms with passwords: every kind of peer joins with the right one, and reports a wrong one."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import pty
import secrets
import subprocess
import termios
import time

import pytest

from bed import frames
from bed.bed import PYTHON, RELEASE, ROOT, X264, Bed, picture
from bed.process import Process, wait_until

PROGRAM = str(RELEASE / "room-signaling")
PASSWORD = "pass the salt"
LEEWAY = 30


@pytest.fixture
def key(tmp_path: pathlib.Path) -> pathlib.Path:
    """A key file for HS256."""
    path = tmp_path / "room.key"
    path.write_text(secrets.token_hex(32))
    path.chmod(0o600)
    return path


@pytest.fixture
def bed(empty_bed: Bed, key: pathlib.Path, tmp_path: pathlib.Path) -> Bed:
    """A bed whose server requires tokens."""
    return with_settings(empty_bed, tmp_path, f"""
        [auth]
        mode = "token"
        [[auth.keys]]
        kid = "room"
        algorithm = "HS256"
        file = "{key}"
        """)


@pytest.fixture
def password_bed(empty_bed: Bed, tmp_path: pathlib.Path) -> Bed:
    """A bed whose server requires a password for rooms whose names begin with "lab"."""
    output = subprocess.run([PROGRAM, "hash-password"], input=PASSWORD, text=True, check=True, capture_output=True).stdout
    return with_settings(empty_bed, tmp_path, f'[[rooms]]\nname = "lab*"\npassword_hash = "{output.strip()}"\n')


def with_settings(bed: Bed, folder: pathlib.Path, text: str) -> Bed:
    (folder / "config.toml").write_text(text)
    bed.start_server(options=("--config", str(folder / "config.toml")))
    return bed


def issue(key: pathlib.Path, user: str, room: str, role: str) -> str:
    """A token that `room-signaling token` makes."""
    command = [PROGRAM, "token", "--key", str(key), "--kid", "room", "--user", user, "--room", room, "--role", role, "--ttl", "10m"]
    return subprocess.run(command, text=True, check=True, capture_output=True).stdout.strip()


def sign(key: pathlib.Path, seconds: float, **claims: object) -> str:
    """A token that another program makes (RFC 7515, appendix A.1), valid for this time, which includes the server's leeway."""
    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")
    claims = {"sub": "ann", "role": ["sender", "receiver"], "exp": time.time() + seconds - LEEWAY, **claims}
    signed = part(json.dumps({"alg": "HS256", "kid": "room"}).encode()) + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.digest(key.read_text().encode(), signed, hashlib.sha256))).decode()


def receiver_py(bed: Bed, room: str, **environment: str) -> Process:
    command = [PYTHON, str(ROOT / "pipelines" / "receiver.py"), "--uri", bed.uri, "--room-id", room, "--frames", "30"]
    variables = [f"{name}={value}" for name, value in environment.items()]
    return bed.start("receiver.py", ["env", *variables, *command], bed.network.receivers)


def refused(process: Process, *words: str) -> None:
    """Checks that an element posts an error immediately, with these words in it."""
    error = process.wait("an error", lambda: process.of("bus", kind="error"))[0]["message"]
    assert all(word in error for word in words), error


def secret_in_logs(bed: Bed, secret: str) -> bool:
    return secret in bed.server.log.read_text()


def test_every_kind_of_peer_joins_with_a_token(bed: Bed, key: pathlib.Path):
    watcher = issue(key, "watcher", "lab*", "receiver")
    bed.sender("lab-1", more=f"token={issue(key, 'camera', 'lab-1', 'sender')}")
    python = receiver_py(bed, "lab-1", ROOM_TOKEN=watcher)
    receiver = bed.receiver("lab-1", more=f"token={watcher}")
    browser = bed.browser(f"lab-1#token={watcher}")
    frames.check_flow(frames.watch(receiver, 3), 3)
    frames.check_flow(frames.watch(browser, 3), 3)
    assert python.popen.wait(30) == 0, python.tail()
    assert not browser.of("page-error") and not secret_in_logs(bed, watcher)


def test_every_kind_of_peer_joins_with_a_password(password_bed: Bed):
    bed = password_bed
    given = f"password=\"{PASSWORD}\""
    bed.sender("lab", more=given)
    python = receiver_py(bed, "lab", ROOM_PASSWORD=PASSWORD)
    receiver = bed.receiver("lab", more=given)
    browser = bed.browser("lab")

    def stands(state: str, wants: str | None) -> bool:
        signaling = browser.ask("viewer")["signaling"]
        return (signaling["state"], signaling["wants"]) == (state, wants)
    browser.wait("the question for the password", lambda: stands("stopped", "password"))
    browser.ask("enter", selector="#password", text="wrong")
    browser.wait("the refusal", lambda: "wrong" in browser.ask("viewer")["signaling"]["detail"])
    browser.ask("enter", selector="#password", text=PASSWORD)
    browser.wait("the room", lambda: stands("joined", None))
    assert PASSWORD not in browser.ask("viewer")["url"] and "password" not in browser.ask("viewer")["url"]
    frames.check_flow(frames.watch(browser, 3), 3)
    frames.check_flow(frames.watch(receiver, 3), 3)
    assert python.popen.wait(30) == 0, python.tail()
    assert not browser.of("page-error") and not secret_in_logs(bed, PASSWORD)
    # Rooms without a password are open.
    bed.sender("hall", "other")


def test_every_kind_of_peer_is_refused_without_a_valid_token(bed: Bed, key: pathlib.Path):
    receiver = issue(key, "ann", "lab*", "receiver")
    forged = sign(key, 600, room="lab")[:-4] + "AAAA"

    def sink(more: str) -> Process:
        return bed.pipeline("sink", f"{picture()} ! {X264} ! {bed.sink('lab', 'camera', more)}", "--source=1")
    refused(sink(""), "token")
    refused(sink(f"token={forged}"), "token", "not signed by its key")
    refused(sink(f"token={sign(key, -1, room='lab')}"), "token", "expired")
    refused(sink(f"token={receiver}"), "as sender", "token is not for this role")
    other = bed.receiver("hall", more=f"token={receiver}")
    refused(other, "hall", "token is not for this room")
    for variables, words in [({}, "--token"), ({"ROOM_TOKEN": forged}, "not signed"), ({"ROOM_TOKEN": sign(key, 60, room="hall")}, "this room"),
                             ({"ROOM_TOKEN": sign(key, 60, room="lab", client_id="me")}, "another client id")]:
        python = receiver_py(bed, "lab", **variables)
        assert python.popen.wait(20) == 1 and words in python.log.read_text(), python.tail()
    browser = bed.browser("lab")
    browser.wait("the question for the token", lambda: browser.ask("viewer")["signaling"]["wants"] == "token")
    browser.ask("enter", selector="#token", text=receiver)
    browser.wait("the room", lambda: browser.ask("viewer")["signaling"]["state"] == "joined")
    old = bed.start("old", [PYTHON, str(ROOT / "tests" / "bed" / "programs" / "observer.py"), bed.uri, "lab"], bed.network.receivers)
    assert old.wait_for("error")["code"] == "unauthorized"


def test_a_wrong_password_is_an_immediate_error(password_bed: Bed):
    bed = password_bed
    for room, more in [("lab", "password=wrong"), ("lab-nobody", "password=wrong"), ("lab", "")]:
        sink = bed.pipeline("sink", f"{picture()} ! {X264} ! {bed.sink(room, 'camera', more)}", "--source=1")
        refused(sink, room, "password")
    python = receiver_py(bed, "lab", ROOM_PASSWORD="wrong")
    assert python.popen.wait(20) == 1 and "password" in python.log.read_text(), python.tail()


def test_an_expired_token_ends_the_membership_and_a_fresh_one_extends_it(bed: Bed, key: pathlib.Path):
    receiver = bed.receiver("lab", more=f"token={issue(key, 'watcher', 'lab', 'receiver')}")
    # Long enough to join on a slow machine. The first token expires first.
    stays = bed.sender("hall", "other", more=f"token={sign(key, 15, room='hall')}")
    sender = bed.sender("lab", more=f"token={sign(key, 15, room='lab')}")
    stays.ask("set", element="room", property="token", value=sign(key, 600, room="hall"))
    frames.wait_first(receiver)
    refused(sender, "token", "expired")
    receiver.wait("the removal of the sender", lambda: receiver.of("bus", kind="element", name="room-sender-removed"))
    # The server writes its log from a separate thread.
    bed.server.wait("the reason in the log", lambda: '"kicked"' in bed.server.log.read_text())
    bed.wait_state(stays)
    assert not stays.of("bus", kind="error")


def test_hash_password_reads_a_terminal_without_echo(built: pathlib.Path):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(PROGRAM, [PROGRAM, "hash-password"])
    shown = b""
    for prompt in (b"Password: ", b"Again: "):
        while prompt not in shown:
            shown += os.read(terminal, 1024)
        wait_until("no echo", lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
        os.write(terminal, PASSWORD.encode() + b"\n")
    while b"\r\n$argon2id$" not in shown or not shown.endswith(b"\n"):
        shown += os.read(terminal, 1024)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert PASSWORD.encode() not in shown
