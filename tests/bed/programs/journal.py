"""Plays systemd's journal: starts a program whose standard error is the journal's and prints each entry as JSON. It has a mount
namespace of its own, so that its socket stands where the real one would.

    unshare --mount journal.py COMMAND...
"""

import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys

if os.readlink("/proc/self/ns/mnt") == os.readlink(f"/proc/{os.getppid()}/ns/mnt"):
    sys.exit("run it by unshare --mount: it would hide this machine's /run")
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
FOLDER = pathlib.Path("/run/systemd/journal")
FOLDER.mkdir(parents=True)
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind(str(FOLDER / "socket"))


def parse(data):
    """The native protocol, in the form with lengths."""
    fields = {}
    while data:
        name, _, data = data.partition(b"\n")
        (length,) = struct.unpack("<Q", data[:8])
        fields[name.decode()], data = data[8:8 + length].decode(), data[9 + length:]
    return fields


def stop(*_):
    program.terminate()
    sys.exit(program.wait())


stream = os.fstat(sys.stderr.fileno())
program = subprocess.Popen(sys.argv[1:], env={**os.environ, "JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}"})
signal.signal(signal.SIGTERM, stop)
while True:
    print(json.dumps({"event": "entry", **parse(journal.recv(1 << 20))}, ensure_ascii=False), flush=True)
