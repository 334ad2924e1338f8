"""Every kind of peer streams over wss, and a renewed certificate disconnects nobody."""

import base64
import hashlib
import pathlib
import signal
import subprocess

import pytest

from bed import frames, network
from bed.bed import PYTHON, ROOT, Bed
from bed.process import Process


def openssl(*arguments: str | pathlib.Path, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], input=given, check=True, capture_output=True).stdout


class Authority:
    """A private certificate authority, made with openssl."""

    def __init__(self, folder: pathlib.Path):
        folder.mkdir()
        self.folder, self.file = folder, folder / "ca.pem"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Lab",
                "-keyout", folder / "ca.key", "-out", self.file)

    def certify(self, certificate: pathlib.Path, key: pathlib.Path) -> None:
        """Issues a certificate for the address of the server."""
        request = openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=server",
                          "-addext", f"subjectAltName=IP:{network.SENDERS}", "-keyout", key)
        openssl("x509", "-req", "-CA", self.file, "-CAkey", self.folder / "ca.key", "-days", "30", "-copy_extensions", "copy",
                "-out", certificate, given=request)

    def __str__(self) -> str:
        return str(self.file)


def fingerprint(certificate: pathlib.Path) -> str:
    """The hash of the public key, with which Chromium can be configured to trust the certificate."""
    key = openssl("pkey", "-pubin", "-outform", "der", given=openssl("x509", "-in", certificate, "-pubkey", "-noout"))
    return base64.b64encode(hashlib.sha256(key).digest()).decode()


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def files(tmp_path: pathlib.Path, authority: Authority) -> tuple[pathlib.Path, pathlib.Path]:
    """The certificate and key of the server."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    authority.certify(certificate, key)
    return certificate, key


@pytest.fixture
def bed(empty_bed: Bed, files: tuple[pathlib.Path, pathlib.Path]) -> Bed:
    """A bed with a server that uses TLS."""
    certificate, key = files
    empty_bed.start_server(options=("--tls-certificate", str(certificate), "--tls-key", str(key)))
    empty_bed.uri = empty_bed.uri.replace("ws://", "wss://")
    return empty_bed


def receiver_py(bed: Bed, *options: str) -> Process:
    return bed.start("receiver.py", [PYTHON, str(ROOT / "pipelines" / "receiver.py"), "--uri", bed.uri, "--room-id", "living_room",
                                     *options], bed.network.receivers)


def test_every_kind_of_peer_streams_over_tls(bed: Bed, authority: Authority, files: tuple[pathlib.Path, pathlib.Path]):
    bed.sender("living_room", more=f"tls-ca-file={authority}")
    python = receiver_py(bed, "--tls-ca-file", str(authority), "--frames", "60")
    receiver = bed.receiver("living_room", more=f"tls-ca-file={authority}")
    browser = bed.browser("living_room", flags=(f"--ignore-certificate-errors-spki-list={fingerprint(files[0])}",))
    frames.check_flow(frames.watch(receiver, 3), 3)
    frames.check_flow(frames.watch(browser, 3), 3)
    assert not browser.of("page-error")
    assert python.popen.wait(30) == 0, python.tail()


def test_a_renewed_certificate_disturbs_nobody(bed: Bed, authority: Authority, files: tuple[pathlib.Path, pathlib.Path],
                                               tmp_path: pathlib.Path):
    sender = bed.sender("living_room", more=f"tls-ca-file={authority}")
    first = bed.receiver("living_room", client_id="first", more=f"tls-ca-file={authority}")
    frames.check_flow(frames.watch(first, 2), 2)
    # Another authority issues it, so that a new client shows which certificate is served.
    other = Authority(tmp_path / "other")
    other.certify(*files)
    bed.server.popen.send_signal(signal.SIGHUP)
    bed.server.wait("the reload", lambda: '"reloaded"' in bed.server.log.read_text(), 10)
    second = bed.receiver("living_room", client_id="second", more=f"tls-ca-file={other}")
    frames.check_flow(frames.watch(second, 3), 3)
    frames.check_flow(frames.watch(first, 3), 3)
    assert bed.receivers_of(sender) == {"first", "second"}


def test_a_peer_that_does_not_trust_the_certificate_names_the_fix(bed: Bed):
    python = receiver_py(bed)
    assert python.popen.wait(20) == 1
    assert "--tls-ca-file" in python.log.read_text()
