"""The proxy configurations in deploy/ run with the real proxies, unchanged apart from the paths of certificates. Traefik is not a
Debian package, so its file is only parsed."""

import collections.abc
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess

import pytest
import websockets.exceptions
import websockets.sync.client
import yaml

from bed import network
from bed.bed import PROGRAMS, PYTHON, RELEASE, ROOT, Programs
from bed.process import Process, wait_until

DEPLOY = ROOT / "deploy"
PROXY, CLIENT, LIAR = "10.1.0.1", "10.1.0.9", "203.0.113.66"
OWN, SHARED = "rooms.example", "www.example"
PROXIES = ["nginx", "caddy", "haproxy"]
# The change in each file with which the proxy keeps the path, as its comments describe.
KEPT = {
    "nginx": ("proxy_pass http://127.0.0.1:8765/;", "proxy_pass http://127.0.0.1:8765;"),
    "caddy": ("handle_path /rooms/*", "handle /rooms/*"),
    "haproxy": ("    http-request replace-path /rooms/(.*) /\\1", "    # http-request replace-path /rooms/(.*) /\\1"),
}
FILES = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg", "haproxy-tcp": "haproxy-tcp.cfg"}


@pytest.fixture
def host():
    with network.Lone([f"{PROXY}/24", f"{CLIENT}/24"]) as lone, lone.inside():
        yield lone


@pytest.fixture
def programs(host: network.Lone, registry: pathlib.Path, tmp_path: pathlib.Path):
    started = Programs(tmp_path, registry)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def certificate(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder with a certificate for both names, as the configurations expect it."""
    folder = tmp_path / "ssl"
    folder.mkdir()
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
                    f"/CN={OWN}", "-addext", f"subjectAltName=DNS:{OWN},DNS:{SHARED}", "-keyout", folder / "privkey.pem", "-out",
                    folder / "fullchain.pem"], check=True, capture_output=True)
    (folder / "rooms.pem").write_text((folder / "fullchain.pem").read_text() + (folder / "privkey.pem").read_text())
    return folder


@pytest.fixture
def server(programs: Programs, host: network.Lone, tmp_path: pathlib.Path):
    """Starts the server with deploy/room-signaling.toml and additional settings."""

    def start(more: str = "") -> Process:
        config = tmp_path / "room-signaling.toml"
        config.write_text((DEPLOY / "room-signaling.toml").read_text() + more)
        process = programs.run("server", host.within(host.name, [str(RELEASE / "room-signaling"), "serve", "--config", str(config)]))
        process.wait("listening", lambda: network.is_bound(process.pid, "tcp", 8765))
        return process

    return start


@pytest.fixture
def proxy(programs: Programs, host: network.Lone, tmp_path: pathlib.Path, certificate: pathlib.Path):
    """Starts a proxy with its configuration, after replacing texts in it."""

    def start(name: str, *changes: tuple[str, str]) -> Process:
        text = (DEPLOY / FILES[name]).read_text().replace("/etc/ssl/rooms", str(certificate))
        for old, new in changes:
            assert old in text, f"{old} is not in {FILES[name]}"
            text = text.replace(old, new)
        file = tmp_path / FILES[name]
        if name == "caddy":
            # A reachable Caddy would obtain its certificates itself.
            tls = f" {{\n\ttls {certificate}/fullchain.pem {certificate}/privkey.pem"
            text = "{\n\tadmin off\n}\n" + re.sub(r"(?m)^(\S+\.example) \{", rf"\1{tls}", text)
            command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]
        elif name == "nginx":
            whole = tmp_path / "whole.conf"
            whole.write_text(f"daemon off; pid {tmp_path}/nginx.pid; error_log stderr; events {{}}\n"
                             f"http {{ access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy; "
                             f"include {file}; }}\n")
            command = ["nginx", "-p", str(tmp_path), "-e", "stderr", "-c", str(whole)]
        else:
            command = ["haproxy", "-db", "-f", str(file)]
        file.write_text(text)
        command = ["env", f"HOME={tmp_path}", f"XDG_DATA_HOME={tmp_path}", f"XDG_CONFIG_HOME={tmp_path}", *command]
        process = programs.run(name, host.within(host.name, command))
        process.wait("listening", lambda: any(network.is_bound(process.pid, protocol, 443) for protocol in ("tcp", "tcp6")))
        return process

    return start


class Visitor:
    """A client in the network with its own address."""

    def __init__(self, certificate: pathlib.Path):
        self._context = ssl.create_default_context(cafile=str(certificate / "fullchain.pem"))

    def _connect(self) -> socket.socket:
        return socket.create_connection((PROXY, 443), timeout=20, source_address=(CLIENT, 0))

    def get(self, name: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Returns the status, the headers and the body."""
        lines = [f"GET {path} HTTP/1.1", f"Host: {name}", "Connection: close", *(f"{key}: {value}" for key, value in headers.items())]
        with self._context.wrap_socket(self._connect(), server_hostname=name) as stream:
            stream.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = b""
            while part := stream.recv(1 << 16):
                answer += part
        head, _, body = answer.decode().partition("\r\n\r\n")
        first, *rest = head.split("\r\n")
        return int(first.split()[1]), {key.lower(): value for key, value in (line.split(": ", 1) for line in rest)}, body

    def register(self, name: str, path: str, origin: str, **headers: str) -> str:
        """Returns the answer to `register` over a WebSocket, or the HTTP status if the upgrade is refused."""
        try:
            with websockets.sync.client.connect(
                    f"wss://{name}{path}", sock=self._connect(), ssl=self._context, server_hostname=name, origin=origin,
                    additional_headers=headers, proxy=None) as socket:
                socket.send(json.dumps({"type": "register", "client_id": "visitor", "protocol": 1}))
                return json.loads(socket.recv(20))["type"]
        except websockets.exceptions.InvalidStatus as refused:
            return str(refused.response.status_code)


@pytest.fixture
def visitor(host: network.Lone, certificate: pathlib.Path) -> Visitor:
    return Visitor(certificate)


def check_page(visitor: Visitor, name: str, folder: str) -> None:
    """Checks that the page and all files that it references are served."""
    status, _, page = visitor.get(name, folder)
    assert status == 200, page
    links = re.findall(r'(?:src|href)="([^":]+)"', page)
    assert "main.js" in links
    assert {link: visitor.get(name, folder + link)[0] for link in links} == dict.fromkeys(links, 200)


def remotes(server: Process) -> collections.abc.Set[str]:
    """The addresses of connected clients according to the log of the server."""
    return set(re.findall(r'"message":"connected".*?"remote":"([^"]+):\d+"', server.log.read_text()))


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_forwards_its_own_host_name(name: str, server, proxy, visitor: Visitor):
    running = server()
    proxy(name)
    check_page(visitor, OWN, "/")
    assert visitor.register(OWN, "/ws", f"https://{OWN}") == "registered"
    wait_until("the server has logged it", lambda: remotes(running), 5)
    assert remotes(running) == {CLIENT}, "the log must have the address of the client, not of the proxy"
    assert visitor.register(OWN, "/ws", "https://evil.example") == "403"
    # An address that the client itself claims is not believed.
    assert visitor.register(OWN, "/ws", f"https://{OWN}", **{"X-Forwarded-For": LIAR}) == "registered"
    assert remotes(running) == {CLIENT}
    # Cookies of the length that single sign-on produces.
    assert visitor.get(OWN, "/", Cookie="a=" + "x" * 9000)[0] == 200
    assert visitor.register(OWN, "/ws", f"https://{OWN}", Cookie="a=" + "x" * 9000) == "registered"


@pytest.mark.parametrize("kept", [False, True], ids=["stripped", "kept"])
@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_forwards_a_path_of_a_site(name: str, kept: bool, server, proxy, visitor: Visitor):
    server('base_path = "/rooms"\n' if kept else "")
    proxy(name, *([KEPT[name]] if kept else []))
    status, headers, _ = visitor.get(SHARED, "/rooms?room=a")
    assert status == 308
    assert re.fullmatch(rf"(https://{SHARED})?/rooms/(\?room=a)?", headers["location"])
    check_page(visitor, SHARED, "/rooms/")
    assert visitor.register(SHARED, "/rooms/ws", f"https://{SHARED}") == "registered"
    assert visitor.register(SHARED, "/rooms/ws", "https://evil.example") == "403"


@pytest.mark.parametrize("version", ["send-proxy-v2", "send-proxy"])
def test_a_tcp_load_balancer_names_the_client(version: str, server, proxy, visitor: Visitor, certificate: pathlib.Path):
    running = server(f'proxy_protocol = true\n[tls]\ncertificate = "{certificate}/fullchain.pem"\nkey = "{certificate}/privkey.pem"\n')
    proxy("haproxy-tcp", ("send-proxy-v2", version))
    check_page(visitor, OWN, "/")
    assert visitor.register(OWN, "/ws", f"https://{OWN}") == "registered"
    wait_until("the server has logged it", lambda: remotes(running), 5)
    assert remotes(running) == {CLIENT}


def test_the_page_below_a_path_joins_its_room(server, proxy, programs: Programs, host: network.Lone, certificate: pathlib.Path):
    server('base_path = "/rooms"\n')
    proxy("nginx", KEPT["nginx"])
    flags = ["--ignore-certificate-errors", f"--host-resolver-rules=MAP {SHARED} {PROXY}"]
    browser = programs.run("browser", host.within(host.name, [
        PYTHON, str(PROGRAMS / "browser.py"), f"https://{SHARED}/rooms/?room=a", *flags]))
    browser.wait_for("ready", 30)
    browser.wait("the room", lambda: browser.ask("viewer")["signaling"]["state"] == "joined", 20)


def test_the_traefik_file_defines_every_name_that_it_uses():
    http = yaml.safe_load((DEPLOY / "traefik.yaml").read_text())["http"]
    for router in http["routers"].values():
        assert router["service"] in http["services"]
        assert set(router.get("middlewares", [])) <= set(http["middlewares"])
    pattern, replacement = (http["middlewares"]["rooms-slash"]["redirectRegex"][key] for key in ("regex", "replacement"))
    found = re.sub(pattern, re.sub(r"\$\{(\d)\}", r"\\\1", replacement), f"https://{SHARED}/rooms?room=a")
    assert found == f"https://{SHARED}/rooms/?room=a"


def test_the_deployment_page_links_every_file():
    text = (ROOT / "docs" / "deploy.md").read_text()
    for file in DEPLOY.iterdir():
        assert f"](../deploy/{file.name})" in text, file.name
