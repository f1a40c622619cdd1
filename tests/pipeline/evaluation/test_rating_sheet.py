"""The blind rating sheet, filled in by a real browser and scored."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from generation.evaluation.film_sheet import rated_figures, write_film_sheet
from generation.evaluation.films import Film, find_films
from pipeline.evaluation.rating_sheet import RatingError
from tests.support.films import BLUE, GREEN, RED, save_film, value
from tests.support.ratings import key_of, ratings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def films(tmp_path: Path) -> list[Film]:
    for name, colours in {"ours/a": [RED, BLUE], "ours/b": [GREEN], "rival/a": [BLUE]}.items():
        save_film(tmp_path / name, colours)
    return find_films([tmp_path / "ours", tmp_path / "rival"])


def test_the_sheet_is_blind_and_stands_alone(films: list[Film], tmp_path: Path) -> None:
    write_film_sheet(films, tmp_path / "sheet", seed=1)
    html = (tmp_path / "sheet/sheet.html").read_text()
    without_pictures = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", html)
    assert not re.search(r"ours|rival|https?:|/tmp|step-0", without_pictures)
    assert html.count("<img") == 3 * 4 and html.count('src="data:image/jpeg') == 3 * 4
    assert html.count('type="radio"') == 3 * 4 * 5


def test_the_order_comes_from_the_seed(films: list[Film], tmp_path: Path) -> None:
    orders = []
    for seed in (0, 0, 1, 2, 3):
        write_film_sheet(films, tmp_path / "sheet", seed=seed)
        orders.append([film["film"] for film in key_of(tmp_path / "sheet")["items"].values()])
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 1
    assert all(sorted(order) == ["ours/a", "ours/b", "rival/a"] for order in orders)


def test_what_a_film_says_cannot_break_the_sheet(tmp_path: Path) -> None:
    save_film(tmp_path / "x" / "a", [RED], actions=["</script><script>alert(1)</script> \" onload='x'"])
    write_film_sheet(find_films([tmp_path / "x"]), tmp_path / "sheet", seed=0)
    html = (tmp_path / "sheet/sheet.html").read_text()
    assert "<script>alert" not in html and "&lt;/script&gt;&lt;script&gt;alert(1)" in html


def test_ratings_of_several_people_are_scored_by_system(films: list[Film], tmp_path: Path) -> None:
    folder = tmp_path / "sheet"
    write_film_sheet(films, folder, seed=1)
    one = ratings(folder, "one", {"ours/a": 5, "ours/b": 3, "rival/a": 1})
    two = ratings(folder, "two", {"ours/a": 3, "rival/a": 2})
    figures = rated_figures([one, two], folder / "key.json", seed=0)
    ours = [each for each in figures if each.of == "films ours"]
    assert value(ours, "narrative (rated)") == pytest.approx((5 + 3 + 3) / 3)
    assert [each.value.n for each in ours if each.value] == [2] * 4, "films, not ratings"
    assert value([each for each in figures if each.of == "films rival"], "realism (rated)") == 1.5
    assert ours[0].note == "1 to 5, 2 raters"
    one = ratings(folder, "one", {"ours/a": 5})
    unrated = [
        each for each in rated_figures([one], folder / "key.json", seed=0) if each.of == "films rival"
    ]
    assert [each.value for each in unrated] == [None] * 4, "what nobody rated keeps its lines"


def test_ratings_that_do_not_count(films: list[Film], tmp_path: Path) -> None:
    folder = tmp_path / "sheet"
    write_film_sheet(films, folder, seed=1)
    good = ratings(folder, "one", {"ours/a": 5})
    again = folder / "again.json"
    again.write_text(good.read_text())
    for paths, words in (
        ([ratings(folder, "other", {}, sheet="x")], "saved by another sheet"),
        ([good, again], "both by the rater 'one'"),
        ([ratings(folder, "six", {"ours/a": 6})], "6 is no score of the sheet"),
        ([ratings(folder, "odd", {}, ratings={"film-01": 3})], "3 is no score of the sheet"),
        ([ratings(folder, "far", {}, ratings={"film-99": {}})], "not of this sheet's films"),
        ([folder / "none.json"], "is not there"),
        ([folder / "sheet.html"], "is damaged"),
    ):
        with pytest.raises(RatingError, match=words):
            rated_figures(paths, folder / "key.json", seed=0)


class Browser:
    """A headless Chromium, spoken to over its debugging port."""

    def __init__(self, page: Path, downloads: Path) -> None:
        from websockets.sync.client import connect

        assert CHROMIUM is not None
        profile = downloads / "profile"
        self._process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
             "--remote-allow-origins=*", f"--user-data-dir={profile}", page.as_uri()],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._last = 0
        port, path = self._wait(lambda: (profile / "DevToolsActivePort").read_text().split())
        self._open = ExitStack()
        self._socket = self._open.enter_context(
            connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None)
        )
        target = self._wait(lambda: self._page())
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Browser.setDownloadBehavior", False, behavior="allow", downloadPath=str(downloads))
        # Before the page there is an empty document, which is complete as well.
        self._wait(
            lambda: self.run("location.protocol === 'file:' && document.readyState === 'complete' || null")
        )

    def _page(self) -> Any:
        targets = self.call("Target.getTargets", False)["targetInfos"]
        return next((each["targetId"] for each in targets if each["url"].startswith("file:")), None)

    def _wait(self, found: Any) -> Any:
        for _ in range(600):
            try:
                value = found()
            except FileNotFoundError:
                value = None
            if value:
                return value
            time.sleep(0.05)
        raise TimeoutError("the browser did not answer within 30 s")

    def call(self, method: str, in_page: bool = True, /, **parameters: Any) -> Any:
        """One command of the DevTools protocol and its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        session = getattr(self, "_session", None)
        self._socket.send(json.dumps(message | ({"sessionId": session} if in_page and session else {})))
        while (reply := json.loads(self._socket.recv(timeout=30))).get("id") != self._last:
            pass
        assert "error" not in reply, reply
        return reply["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def saved(self, path: Path) -> Path:
        """A file that the page saves, once it is there."""
        self._wait(lambda: path.is_file())
        return path

    def close(self) -> None:
        """End it."""
        self._open.close()
        self._process.terminate()
        self._process.wait(timeout=20)


@pytest.fixture
def browser(films: list[Film], tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    write_film_sheet(films, tmp_path / "sheet", seed=1)
    (tmp_path / "downloads").mkdir()
    opened = Browser(tmp_path / "sheet/sheet.html", tmp_path / "downloads")
    yield opened
    opened.close()


def test_a_browser_shows_fills_and_saves_the_sheet(browser: Browser, tmp_path: Path) -> None:
    assert browser.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert browser.run("document.images.length") == 12
    # Without all answers nothing is saved, and the browser shows what is missing.
    browser.run("document.querySelector('[name=rater]').value = 'Åse & Bo'")
    browser.run("document.getElementById('save').click()")
    assert browser.run("document.querySelectorAll(':invalid').length") > 0
    assert browser.run("document.getElementById('state').textContent") == ""
    # Film k gets k + 1 on the first scale and 3 on the others.
    browser.run(
        "document.querySelectorAll('fieldset').forEach((field, place) => {"
        " const score = place % 4 === 0 ? Math.floor(place / 4) + 2 : 3;"
        " field.querySelector(`input[value='${score}']`).click(); })"
    )
    browser.run("document.getElementById('save').click()")
    assert browser.run("document.getElementById('state').textContent") == "Saved as ratings-Åse-Bo.json."
    path = browser.saved(tmp_path / "downloads/ratings-Åse-Bo.json")
    assert json.loads(path.read_text())["rater"] == "Åse & Bo"

    figures = rated_figures([path], tmp_path / "sheet/key.json", seed=0)
    order = [film["film"] for film in key_of(tmp_path / "sheet")["items"].values()]
    expected = {film: place + 2 for place, film in enumerate(order)}
    ours = [each for each in figures if each.of == "films ours"]
    rival = [each for each in figures if each.of == "films rival"]
    assert value(ours, "aesthetic (rated)") == (expected["ours/a"] + expected["ours/b"]) / 2
    assert value(rival, "aesthetic (rated)") == expected["rival/a"]
    assert value(ours, "narrative (rated)") == 3
