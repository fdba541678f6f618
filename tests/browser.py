"""A headless Chromium on a pipe, as far as the tests of pages need one.

The DevTools protocol over ``--remote-debugging-pipe``: JSON messages, each ended by a NUL byte, on
file descriptors 3 and 4. No port is opened, and nothing is needed beyond the standard library.
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
# The pipe's ends must be descriptors 3 and 4, and subprocess may need those numbers itself.
SHIM = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]]
for wanted, end in zip((3, 4), ends, strict=True):
    os.dup2(end, wanted, inheritable=True)
    os.close(end)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find_chromium() -> str | None:
    """Path of an installed Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Visit:
    """One page, opened; what it complained of and what it asked for."""

    browser: "Browser"
    session: str
    complaints: list[str] = field(default_factory=list)
    """Console errors and warnings, uncaught exceptions, refused resources, dialogs."""
    requests: list[str] = field(default_factory=list)
    """URLs that were asked for, without the page itself and ``data:``."""

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression, as JSON carries it."""
        answer = self.browser.call(
            "Runtime.evaluate",
            {"expression": expression, "returnByValue": True, "awaitPromise": True},
            self.session,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, top: float, height: float, width: float) -> None:
        """Save a piece of the page, wherever it stands, as PNG."""
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        answer = self.browser.call(
            "Page.captureScreenshot",
            {"format": "png", "captureBeyondViewport": True, "clip": clip},
            self.session,
        )
        path.write_bytes(base64.b64decode(answer["data"]))


class Browser:
    """A running Chromium with a profile of its own. Use as a context manager."""

    def __init__(self, program: str, *, timeout: float = 60.0) -> None:
        self._timeout = timeout
        self._numbers = itertools.count(1)
        self._waiting = b""
        self._events: list[dict[str, Any]] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [program, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", SHIM, str(theirs_in), str(theirs_out), *command],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def call(self, method: str, params: dict[str, Any], session: str | None = None) -> Any:
        """Send a command and wait for its answer; events that come meanwhile are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._events.append(answer)

    def events(self, *, until: str) -> Iterator[dict[str, Any]]:
        """Events, oldest first, up to and with the first one of the given name."""
        while True:
            event = self._events.pop(0) if self._events else self._receive()
            yield event
            if event.get("method") == until:
                return

    def drain(self) -> Iterator[dict[str, Any]]:
        """Events that have come so far."""
        while self._events:
            yield self._events.pop(0)

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + self._timeout
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            piece = os.read(self._in, 1 << 20) if ready else b""
            if not piece:
                raise TimeoutError(f"Chromium is gone or silent (exit {self._process.poll()})")
            self._waiting += piece
        message, self._waiting = self._waiting.split(b"\0", 1)
        return json.loads(message)

    @contextmanager
    def visit(
        self, page: Path, *, width: int, height: int = 900, dark: bool = False, script: bool = True
    ) -> Iterator[Visit]:
        """Open a file in a tab of its own and load it whole, watching from before it loads."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        session = attached["sessionId"]
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        for method, params in (
            ("Page.enable", {}),
            ("Runtime.enable", {}),
            ("Log.enable", {}),
            ("Network.enable", {}),
            ("Emulation.setDeviceMetricsOverride", size),
            ("Emulation.setEmulatedMedia", {"features": [scheme]}),
            ("Emulation.setScriptExecutionDisabled", {"value": not script}),
        ):
            self.call(method, params, session)
        visit = Visit(self, session)
        url = page.resolve().as_uri()
        self.call("Page.navigate", {"url": url}, session)
        for event in self.events(until="Page.loadEventFired"):
            note(visit, event, url)
        yield visit
        # A frame later, so that what the page did last is seen too.
        if script:
            visit.evaluate("new Promise(done => setTimeout(done, 150))")
        for event in self.drain():
            note(visit, event, url)
        self.call("Target.closeTarget", {"targetId": target})


def note(visit: Visit, event: dict[str, Any], page: str) -> None:
    """Keep what an event tells against the page."""
    if event.get("sessionId") != visit.session:
        return
    params = event["params"]
    match event["method"]:
        case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
            visit.complaints.append(f"console: {params['args']}")
        case "Runtime.exceptionThrown":
            visit.complaints.append(f"exception: {params['exceptionDetails']}")
        case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
            visit.complaints.append(f"log: {params['entry']['text']}")
        case "Page.javascriptDialogOpening":
            visit.complaints.append(f"dialog: {params['message']}")
            visit.browser.call("Page.handleJavaScriptDialog", {"accept": True}, visit.session)
        case "Network.requestWillBeSent":
            url = params["request"]["url"]
            if url != page and not url.startswith("data:"):
                visit.requests.append(url)
        case _:
            pass


def pieces(height: float, step: float) -> Sequence[tuple[float, float]]:
    """(top, height) of the pieces that a tall page is cut into."""
    return [(top, min(step, height - top)) for top in range(0, int(height), int(step))]
