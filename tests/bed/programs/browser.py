"""Headless Chromium on the real viewer page. Events: frame (each presented picture, read back through a canvas), console,
page-error, title, reply.

    browser.py URL [FLAG OF CHROMIUM...]

JSON lines on stdin: {"id": 1, "do": "enter", "selector": "#password", "text": "x"} types into a field and presses Enter;
{"id": 2, "do": "viewer"} is answered with what the page knows of itself.
"""

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
    if request["do"] == "enter":
        page.locator(request["selector"]).fill(request["text"])
        return page.locator(request["selector"]).press("Enter")
    if request["do"] == "viewer":
        return page.evaluate("({...roomViewer, url: location.href})")
    raise ValueError(f"no such command: {request['do']}")


def main(url, *flags):
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
        page.goto(url)
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
    main(*sys.argv[1:])
except Error as error:
    if not stop.is_set():
        raise
    tell("closed", text=str(error))
