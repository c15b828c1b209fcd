"""Chromium without a window, driven over a pipe in the DevTools protocol: no client library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-extensions", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe"),
)
LONG_S = 60.0


def chromium() -> str | None:
    """Where the browser is, if it is installed."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class Browser:
    """One tab. `requests` are URLs that the page asked for, `complaints` its errors."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="sdbatch-chromium-")
        read_theirs, self._to = os.pipe()
        self._from, write_theirs = os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        script = f'exec 3<&{read_theirs} 4>&{write_theirs}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", chromium(), *FLAGS, f"--user-data-dir={self._profile}"],
            pass_fds=(read_theirs, write_theirs),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_theirs)
        os.close(write_theirs)
        self._waiting, self._number, self._session = b"", 0, None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(LONG_S)
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._profile, ignore_errors=True)

    @property
    def requests(self) -> list[str]:
        """URLs asked for, whether or not they were let through."""
        sent = [each for each in self.events if each["method"] == "Network.requestWillBeSent"]
        return [each["params"]["request"]["url"] for each in sent]

    @property
    def complaints(self) -> list[str]:
        """Errors of scripts, and what the page's policy refused."""
        kinds = ("Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(each["params"]) for each in self.events if each["method"] in kinds]

    def call(self, method: str, **params):
        """One command and its answer; events on the way are kept."""
        self._number += 1
        body = {"id": self._number, "method": method, "params": params}
        if self._session:
            body["sessionId"] = self._session
        os.write(self._to, json.dumps(body).encode() + b"\0")
        end = time.monotonic() + LONG_S
        while True:
            message = self._receive(end)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, path: Path) -> None:
        """Show a local file and wait until all of it is there."""
        self.call("Page.navigate", url=path.as_uri())
        self.until("document.readyState + location.protocol", "completefile:")

    def run(self, expression: str):
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, wanted=True) -> None:
        """Wait until an expression has a value: events of a page come when they come."""
        end = time.monotonic() + LONG_S
        while (found := self.run(expression)) != wanted:
            assert time.monotonic() < end, f"{expression}: {found!r}, not {wanted!r}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press and release a key where the focus is."""
        codes = {"ArrowRight": 39, "ArrowLeft": 37, "Enter": 13, "Escape": 27}
        texts = {"Enter": {"text": "\r"}}
        for kind in ("keyDown", "keyUp"):
            extra = texts.get(key, {}) if kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=codes[key], **extra,
            )  # fmt: skip

    def type(self, text: str) -> None:
        """Type into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def screen(self, width: int, height: int, dark: bool = False) -> None:
        """Be a screen of this size and scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def shoot(self, path: Path) -> Path:
        """Keep what the screen shows as a PNG."""
        shot = self.call("Page.captureScreenshot", format="png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _receive(self, end: float) -> dict:
        while b"\0" not in self._waiting:
            ready, _, _ = select.select([self._from], [], [], max(end - time.monotonic(), 0))
            assert ready, "Chromium does not answer"
            piece = os.read(self._from, 1 << 20)
            assert piece, "Chromium has gone"
            self._waiting += piece
        line, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(line)
