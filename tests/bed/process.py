"""A program of the bed: a process group of its own, JSON lines out of it, commands into it."""

import collections.abc
import itertools
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

Event = dict[str, object]


class Failed(AssertionError):
    """A program ended, failed or kept silent when it should not have."""


class Process:
    """Starts a program, keeps every JSON line that it prints, and ends the whole of its process group."""

    def __init__(self, name: str, command: list[str], logs: pathlib.Path, env: dict[str, str] | None = None):
        self.name = name
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self._ids = itertools.count(1)
        self.log = logs / f"{name}.log"
        with self.log.open("w") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            self.popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True, env={**os.environ, **(env or {})},
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self.log.with_suffix(".out").open("w") as copy:
            for line in self.popen.stdout:
                copy.write(line)
                copy.flush()
                event = json.loads(line) if line.startswith("{") else {"event": "text", "text": line.rstrip("\n")}
                event.setdefault("event", "text")
                event["seen"] = time.time()
                with self._changed:
                    self.events.append(event)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self.popen.pid

    def running(self) -> bool:
        return self.popen.poll() is None

    def of(self, event: str, /, **fields: object) -> list[Event]:
        """The events of a kind so far whose fields are as said."""
        with self._changed:
            events = list(self.events)
        return [e for e in events if e["event"] == event and all(e.get(k) == v for k, v in fields.items())]

    def wait(self, what: str, condition: collections.abc.Callable[[], object], timeout: float = 20) -> object:
        """Waits until `condition` gives something true and returns that; fails after `timeout` seconds or when the
        program has ended without it."""
        deadline = time.monotonic() + timeout
        while not (result := condition()):
            ended = not self.running() and not self._reader.is_alive()
            if ended and not (result := condition()):
                raise Failed(f"{self.name} ended ({self.popen.returncode}) before: {what}\n{self.tail()}")
            if result:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed(f"{self.name}: not within {timeout} s: {what}\n{self.tail()}")
            with self._changed:
                self._changed.wait(min(left, 0.05))
        return result

    def wait_for(self, event: str, /, timeout: float = 20, **fields: object) -> Event:
        """Waits for the first event of a kind with these fields."""
        return self.wait(f"{event} {fields}", lambda: self.of(event, **fields), timeout)[0]

    def ask(self, do: str, timeout: float = 10, **arguments: object) -> object:
        """Sends a command and returns its answer."""
        number = next(self._ids)
        try:
            self.popen.stdin.write(json.dumps({"id": number, "do": do, **arguments}) + "\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name} ended before it was asked to {do}\n{self.tail()}") from None
        reply = self.wait_for("reply", timeout, id=number)
        if "failure" in reply:
            raise Failed(f"{self.name}: {do} {arguments}: {reply['failure']}")
        return reply["value"]

    def send_signal(self, number: int) -> None:
        """Sends a signal to the whole group."""
        try:
            os.killpg(self.popen.pid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        """As a power cut would."""
        self.send_signal(signal.SIGKILL)
        self.popen.wait()

    def stop(self, number: int = signal.SIGTERM, timeout: float = 10) -> int:
        """Asks it to end, waits, and returns the exit status; whoever doesn't follow is killed."""
        self.send_signal(number)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
            self.popen.wait()
            raise Failed(f"{self.name} did not end within {timeout} s of signal {number}\n{self.tail()}") from None
        finally:
            self.send_signal(signal.SIGKILL)  # what is left of the group
        return self.popen.returncode

    def tail(self, lines: int = 30) -> str:
        """The end of what it wrote to stderr, and its last events that are not single frames."""
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        with self._changed:
            events = [e for e in self.events if e["event"] not in ("frame", "unit")][-10:]
        return "\n".join(f"  {self.name}| {line}" for line in [*text, *(json.dumps(e, ensure_ascii=False) for e in events)])


def wait_until(what: str, condition: collections.abc.Callable[[], object], timeout: float = 20) -> object:
    """Waits for something that no single program tells."""
    deadline = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {timeout} s: {what}")
        time.sleep(0.05)
    return result


