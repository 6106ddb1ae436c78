"""A headless Chromium, driven by its DevTools protocol through a pipe: no package is needed."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """Its path; ``CHROMIUM`` names it elsewhere. None where there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        """What the page wrote to the console as a warning or an error, and what it threw."""
        self.requests: list[str] = []
        """Addresses that the page asked the network for."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        answer = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _next(self, patience: float = 60.0) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._back], [], [], patience)[0]:
                raise TimeoutError(f"Chromium is silent for {patience:g} s")
            more = os.read(self._back, 1 << 20)
            if not more:
                raise RuntimeError("Chromium has ended")
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", str(details)))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("warning", "error"):
            said = [str(a.get("value", a.get("description"))) for a in params["args"]]
            self.complaints.append(" ".join(said))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, path: Path, ready: str) -> float:
        """Open a file and wait until an expression is true; returns the seconds it took."""
        begin = time.monotonic()
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self.wait_for(ready)
        return time.monotonic() - begin

    def run(self, script: str) -> Any:
        """The value of an expression, promises awaited."""
        answer = self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True,
            userGesture=True,
        )  # fmt: skip
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", str(details)))
        return answer["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 30.0) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        asked = f"(() => {{ try {{ return Boolean({condition}) }} catch {{ return false }} }})()"
        while not self.run(asked):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} is not true after {seconds:g} s")
            time.sleep(0.02)

    def press(self, key: str, code: str = "", modifiers: int = 0) -> None:
        """One key, down and up."""
        text = {"text": key} if len(key) == 1 else {}
        about = {"key": key, "code": code or key, "modifiers": modifiers}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **about, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def click(self, x: float, y: float) -> None:
        """The left button, in CSS pixels of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def wheel(self, x: float, y: float, by: tuple[float, float], modifiers: int = 0) -> None:
        """The wheel, by so many pixels to the right and down; modifier 2 is Control."""
        self.ask(
            "Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=by[0], deltaY=by[1],
            modifiers=modifiers,
        )  # fmt: skip

    def dark(self, dark: bool = True) -> None:
        """What the system prefers."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """The window's size in CSS pixels, and the screen's pixels per CSS pixel."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=scale, mobile=False,
        )  # fmt: skip

    def picture(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))


@contextmanager
def chromium(binary: str, width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A browser with one tab, gone when the block ends."""
    down, to = os.pipe()
    back, up = os.pipe()

    def wire() -> None:  # the protocol reads descriptor 3 and writes descriptor 4
        os.dup2(down, 10)
        os.dup2(up, 11)
        os.dup2(10, 3)
        os.dup2(11, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        command = [
            binary, "--headless=new", "--remote-debugging-pipe", "--no-first-run",
            "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update",
            "--autoplay-policy=no-user-gesture-required", f"--user-data-dir={home}",
            f"--window-size={width},{height}",
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # which root cannot have
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            close_fds=False, preexec_fn=wire, start_new_session=True,
        )  # fmt: skip
        os.close(down)
        os.close(up)
        try:
            page = Page(to, back)
            page.resize(width, height)
            yield page
        finally:
            os.close(to)
            os.close(back)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
