"""Headless Chromium on the real viewer page. Events: frame (each presented picture, read back through a canvas), console,
page-error, title, reply.

    browser.py [--without-codec NAME] [--bad-ice-server] URL [FLAG OF CHROMIUM...]

JSON lines on stdin: {"id": 1, "do": "enter", "selector": "#password", "text": "x"} types into a field and presses Enter;
"click", "text", "visible" and "attribute" (with "name") act on a selector likewise; "reload" and "evaluate" (with
"expression") act on the page; "viewer" is answered with what the page knows of itself.
"""

import argparse
import json
import pathlib
import queue
import signal
import sys
import tempfile
import threading
import time

from playwright.sync_api import Error, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-renderer-backgrounding",
]
stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())


def tell(event, **fields):
    print(json.dumps({"event": event, "t": time.time(), **fields}, ensure_ascii=False), flush=True)


def read_commands(commands):
    for line in sys.stdin:
        commands.put(json.loads(line))


def perform(page, request):
    """Does one command. Only on Playwright's own thread."""
    element = page.locator(request["selector"]) if "selector" in request else None
    if request["do"] == "enter":
        element.fill(request["text"])
        return element.press("Enter")
    if request["do"] == "click":
        return element.click(timeout=5000)
    if request["do"] == "text":
        return element.inner_text(timeout=5000)
    if request["do"] == "visible":
        return element.is_visible()
    if request["do"] == "attribute":
        return element.get_attribute(request["name"], timeout=5000)
    if request["do"] == "reload":
        page.reload()
        return None
    if request["do"] == "evaluate":
        return page.evaluate(request["expression"])
    if request["do"] == "viewer":
        return page.evaluate("({...roomViewer, url: location.href})")
    raise ValueError(f"no such command: {request['do']}")


# As in a browser that has never heard of a codec.
WITHOUT_CODEC = """
const set = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function (description) {
  return set.call(this, { ...description, sdp: description.sdp.replaceAll('NAME/90000', 'UNHEARD/90000') });
};
"""
# As from a server whose settings have a URL without a host, which today's servers refuse.
BAD_ICE_SERVER = """
const parse = JSON.parse;
JSON.parse = (text) => {
  const message = parse(text);
  if (message.type === 'joined') message.ice_servers = [{ urls: ['stun:'] }];
  return message;
};
"""


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-codec")
    parser.add_argument("--bad-ice-server", action="store_true")
    parser.add_argument("url")
    return parser.parse_known_args()


def main(options, flags):
    commands = queue.SimpleQueue()
    threading.Thread(target=read_commands, args=(commands,), daemon=True).start()
    reader = (pathlib.Path(__file__).parent / "barcode.js").read_text()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=[*FLAGS, *flags], handle_sigint=False, handle_sigterm=False,
        )
        page = context.pages[0] if context.pages else context.new_page()
        page.on("console", lambda message: tell("console", level=message.type, text=message.text))
        page.on("pageerror", lambda error: tell("page-error", text=str(error)))
        page.add_init_script(reader)
        if options.without_codec:
            page.add_init_script(WITHOUT_CODEC.replace("NAME", options.without_codec))
        if options.bad_ice_server:
            page.add_init_script(BAD_ICE_SERVER)
        page.goto(options.url)
        tell("ready")
        while not stop.is_set():
            for frame in page.evaluate("bed.take()"):
                print(json.dumps(frame, ensure_ascii=False), flush=True)
            while not commands.empty():
                request = commands.get()
                try:
                    tell("reply", id=request["id"], value=perform(page, request))
                except Exception as error:  # the test that asked is told
                    tell("reply", id=request["id"], failure=repr(error))
            page.wait_for_timeout(100)
        context.close()


try:
    main(*arguments())
except Error as error:
    if not stop.is_set():
        raise
    tell("closed", text=str(error))
