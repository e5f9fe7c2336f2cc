"""Chromium without a window, driven over a pipe by the DevTools protocol: nothing to install besides the browser."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "--mute-audio")
PATIENCE = 60.0


class Page:
    """One page, with all that it asked the network for and all that it complained about."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._buffer, self._number = send, receive, b"", 0
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Performance"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._receive, 1 << 20)
            assert piece, "the browser is gone"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def look(self, *, width: int = 1400, height: int = 900, scheme: str = "light", mobile: bool = False) -> None:
        """Set the window and the colour scheme that the page sees."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        if mobile:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True)

    def open(self, path: Path) -> float:
        """Load a file; returns the seconds until its scripts say that all of it can be used."""
        started = time.perf_counter()
        self.call("Page.navigate", url=path.absolute().as_uri())
        while self.run("document.documentElement?.hasAttribute('data-ready')") is not True:
            assert time.perf_counter() - started < PATIENCE, self.complaints
            time.sleep(0.02)
        return time.perf_counter() - started

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    @property
    def processor_seconds(self) -> float:
        """What the page's process has used of the processor, all of its threads: it hardly depends on the load."""
        figures = self.call("Performance.getMetrics")["metrics"]
        return next(figure["value"] for figure in figures if figure["name"] == "ProcessTime")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write what the window shows, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    @property
    def requests(self) -> list[str]:
        """Everything that was asked for but the file itself."""
        self.run("1")
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"][:200] for params in sent if params.get("type") != "Document"]

    @property
    def complaints(self) -> list[str]:
        """Exceptions, console errors and warnings, broken policies."""
        self.run("1")
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"])[:500])
            if event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(params["args"])[:500])
            if event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(json.dumps(params["entry"])[:500])
        return found


@contextlib.contextmanager
def chromium() -> Iterator[Page]:
    """A browser with one empty page."""
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()

    def place_pipes() -> None:
        # The browser reads commands at descriptor 3 and answers at 4; the ends may be 3 and 4 already, crosswise.
        commands, answers = os.dup(to_browser), os.dup(to_us)
        os.dup2(commands, 3)
        os.dup2(answers, 4)

    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        browser = subprocess.Popen(
            command, preexec_fn=place_pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(to_us)
        try:
            yield Page(from_us, from_browser)
        finally:
            browser.terminate()
            browser.wait(10)
            os.close(from_us)
            os.close(from_browser)
