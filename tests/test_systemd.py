"""The systemd unit: systemd accepts every line, and the sandbox is tight."""

import pathlib
import re
import subprocess

import pytest

from bed.bed import PROGRAMS, RELEASE, ROOT, SYSTEM_PYTHON, Programs


@pytest.fixture
def unit(built: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """The unit as meson would install it, for the built program."""
    text = (ROOT / "signaling" / "server" / "room-signaling.service.in").read_text()
    path = tmp_path / "room-signaling.service"
    path.write_text(text.replace("@bindir@", str(RELEASE)))
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)


def test_systemd_accepts_the_unit(unit: pathlib.Path):
    # The manual page is not installed here.
    result = analyze("verify", "--man=no", str(unit))
    assert (result.returncode, result.stderr) == (0, "")


def test_a_misspelled_key_is_detected(unit: pathlib.Path):
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in analyze("verify", "--man=no", str(unit)).stderr


def test_the_exposure_is_at_most_two(unit: pathlib.Path):
    result = analyze("security", "--offline=yes", str(unit))
    level = re.search(r"Overall exposure level for room-signaling.service: ([0-9.]+)", result.stdout)
    assert level and float(level[1]) <= 2.0, result.stdout


def calls(name: str) -> set[str]:
    """The system calls in a systemd set such as @resources; any other name is itself a call."""
    if not name.startswith("@"):
        return {name}
    shown = analyze("syscall-filter", name).stdout.splitlines()[1:]
    names = [line.strip() for line in shown if line.startswith("    ") and "#" not in line]
    return set().union(*map(calls, names))


def allowed_calls(unit: str) -> set[str]:
    """The system calls that the filter lines of a unit allow, applied in order like systemd does."""
    allowed: set[str] = set()
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", unit):
        these = set().union(*map(calls, line.lstrip("~").split()))
        allowed = allowed - these if line.startswith("~") else allowed | these
    return allowed


def test_password_threads_may_lower_their_priority(unit: pathlib.Path):
    allowed = allowed_calls(unit.read_text())
    assert "setpriority" in allowed
    # The rest of @resources is denied.
    assert not allowed & {"setrlimit", "sched_setscheduler", "ioprio_set", "mount", "setuid"}


def test_the_log_is_written_to_the_journal(built: pathlib.Path, registry: pathlib.Path, tmp_path: pathlib.Path):
    programs = Programs(tmp_path, registry)
    server = [str(built / "room-signaling"), "serve", "--listen", "127.0.0.1:0"]
    process = programs.run("journal", ["unshare", "--mount", SYSTEM_PYTHON, str(PROGRAMS / "journal.py"), *server])
    try:
        entry = process.wait("the entry", lambda: [e for e in process.of("entry") if e["MESSAGE"].startswith("listening ")])[0]
        assert entry["PRIORITY"] == "6" and entry["SYSLOG_IDENTIFIER"] == "room-signaling"
        assert re.fullmatch(r"127\.0\.0\.1:\d+", entry["SIGNALING_LISTEN"])
    finally:
        programs.close()
    # Each line is logged once.
    assert "listening" not in process.log.read_text()
