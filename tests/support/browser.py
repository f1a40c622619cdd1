"""A headless Chromium that clicks and types, driven over the WebDriver protocol."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import pytest

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Key of an element's id in answers, as the WebDriver standard names it."""
ENTER, TAB, LEFT = "\ue007", "\ue004", "\ue012"
PATIENCE_S = 20.0
Found = TypeVar("Found")


class Browser:
    """One window; every method waits until its element is there and can be used."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._http = httpx.Client(trust_env=False, timeout=60)

    def open(self, url: str) -> None:
        self._post("url", url=url)

    def resize(self, width_px: int, height_px: int = 900) -> None:
        self._post("window/rect", width=width_px, height=height_px)

    def run(self, script: str, *arguments: Any) -> Any:
        """Return the value of the body of a function, run in the page."""
        return self._post("execute/sync", script=script, args=list(arguments))

    def text(self, css: str) -> str:
        """Return the visible text of the first element that matches."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", css))

    def click(self, css: str) -> None:
        self.wait_for(lambda: self._done(f"element/{self._find(css)}/click"))

    def type(self, css: str, keys: str) -> None:
        self.wait_for(lambda: self._done(f"element/{self._find(css)}/value", text=keys))

    def wait_for(self, question: Callable[[], Found]) -> Found:
        """Return the first true answer; the page may need a moment."""
        end = time.monotonic() + PATIENCE_S
        while not (answer := question()):
            assert time.monotonic() < end, self.text("body")
            time.sleep(0.05)
        return answer

    def fits(self) -> bool:
        """Return whether nothing has to be scrolled sideways."""
        return bool(self.run("return document.documentElement.scrollWidth <= window.innerWidth"))

    def errors(self) -> list[str]:
        """Return errors of scripts, loads and the page's policy since the last call."""
        lines = self._post("se/log", type="browser")
        return [line["message"] for line in lines if line["level"] == "SEVERE"]

    def _find(self, css: str) -> str:
        found = self.wait_for(lambda: self._post("elements", using="css selector", value=css))
        return str(found[0][ELEMENT])

    def _done(self, what: str, **body: Any) -> bool:
        """Return whether a deed on an element was possible: it may be covered, or replaced meanwhile."""
        return self._http.post(f"{self._session}/{what}", json=body).status_code == 200

    def _post(self, what: str, **body: Any) -> Any:
        answer = self._http.post(f"{self._session}/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser of its own; skip the test where none is installed."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("no browser: Debian's packages chromium and chromium-driver have one")
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = next(
            found[1] for line in process.stdout if (found := re.search(r"on port ([1-9]\d+)", line))
        )
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--no-proxy-server", "--window-size=1280,900"]  # fmt: skip
        options = {"args": arguments, "binary": chromium}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        url = f"http://127.0.0.1:{port}/session"
        answer = httpx.post(
            url, json={"capabilities": {"alwaysMatch": wanted}}, trust_env=False, timeout=120
        )
        assert answer.status_code == 200, answer.text
        session = f"{url}/{answer.json()['value']['sessionId']}"
        try:
            yield Browser(session)
        finally:
            # Without it a failed test would leave the browser behind.
            httpx.delete(session, trust_env=False, timeout=60)
    finally:
        process.terminate()
        process.wait(20)
