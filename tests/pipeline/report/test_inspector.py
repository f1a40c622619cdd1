"""The inspector: counts under other thresholds, and what its web server gives away."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.media import write_video
from pipeline.dataset.manifest import File, Manifest
from pipeline.dataset.schema import SCHEMA_VERSION, TABLES
from pipeline.platform.storage import Store
from pipeline.report.comparison import compare
from pipeline.report.inspector import Inspected
from pipeline.report.inspector_http import Server
from stages.frames import FramePacker, encoded
from tests.support.browser import ENTER, LEFT, browsing
from tests.support.buckets import bucket, s3_server
from tests.support.listening import listening

__all__ = ["bucket", "s3_server"]
VIDEO, OTHER = "0" * 16, "f" * 16
HOSTILE = '<img src=x onerror=alert(1)>\u202e\x07 "quoted"'
CONFIG = {
    "match": {"max_start_diff_s": 5.0, "min_iou": 0.25, "sufficient_iou": 0.5},
    "clip": {"min_sharpness": 0.1, "min_exposure": 0.05, "max_exposure": 0.97, "min_motion": 0.0005},
    "watermark": {"threshold": 0.5},
}


def write(output: Path, rows: dict[str, list[dict[str, Any]]], config: dict[str, Any] = CONFIG) -> Path:
    output.mkdir(exist_ok=True)
    (output / "run.json").write_text(json.dumps({"status": "done", "config": config, "stages": {}}))
    for name, schema in TABLES.items():
        (output / name).mkdir(exist_ok=True)
        whole = [dict.fromkeys(schema.names) | row for row in rows.get(name, [])]
        pq.write_table(pa.Table.from_pylist(whole, schema), output / name / "part-all.parquet")
    return output


def write_film(path: Path) -> None:
    """Twenty seconds, one picture a second; the grey level tells the time."""
    pictures = (np.full((48, 64, 3), 10 * second, np.uint8) for second in range(20))
    write_video(path, pictures, 1, crf=10)


def grey(jpeg: bytes) -> float:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return float(picture.mean())


def clip(number: int, start_s: float, end_s: float, **more: Any) -> dict[str, Any]:
    scores = {"sharpness": 0.5, "exposure": 0.5, "motion": 0.01, "watermark_score": 0.0}
    return scores | {
        "clip_id": f"{VIDEO}-c{number:04}", "video_id": VIDEO, "start_s": start_s, "end_s": end_s,
        "caption": f"Hands at {start_s}", **more,
    }  # fmt: skip


def lost(reason: str, detail: str, start_s: float, end_s: float, stage: str = "clip") -> dict[str, Any]:
    return {
        "kind": "clip", "video_id": VIDEO, "stage": stage, "reason": reason, "detail": detail,
        "start_s": start_s, "end_s": end_s,
    }  # fmt: skip


@pytest.fixture
def output(tmp_path: Path) -> Path:
    media = tmp_path / "my video.mp4"
    write_film(media)
    (tmp_path / "secret.txt").write_text("secret")
    rows = {
        "videos": [
            {"uri": media.as_uri(), "video_id": VIDEO, "status": "kept", "title": HOSTILE,
             "duration_s": 60.0},
            {"uri": "file:///etc/passwd", "video_id": None, "status": "rejected"},
            {"uri": "https://example.com/x.mp4", "video_id": OTHER, "status": "kept", "title": "Tea"},
        ],
        "clips": [clip(0, 0, 10, caption=HOSTILE), clip(1, 10, 20, sharpness=0.15)],
        "actions": [
            {"action_id": f"{VIDEO}-a{n:04}", "video_id": VIDEO, "start_s": s, "end_s": e, "text": t,
             "matched": n < 2}
            for n, (s, e, t) in enumerate(
                [(0, 8, "Chop"), (11, 19, "Fry"), (32, 34, "Stir"), (41, 49, "Eat")]
            )
        ],
        "rejects": [
            lost("no_match", "overlap_too_small: IoU 0.200", 30, 40, "match"),
            lost("blurred", "sharpness 0.04 is below clip.min_sharpness 0.1", 40, 50),
            {"kind": "file", "uri": "file:///etc/passwd", "stage": "probe", "reason": "corrupt",
             "detail": HOSTILE},
        ],
    }  # fmt: skip
    return write(tmp_path / "dataset", rows)


def test_other_thresholds_are_counted_from_stored_scores(output: Path) -> None:
    data = Inspected(output)
    assert data.what_if({}) == {
        "clips": 3, "matched_clips": 2, "pairs": 2, "matched_actions": 2, "videos": 1, "seconds": 20.0,
    }  # fmt: skip
    # The clip that only lacked overlap, and the one that was only too blurred, come in.
    assert data.what_if({"match.min_iou": 0.1})["matched_clips"] == 3
    assert data.what_if({"clip.min_sharpness": 0.03})["matched_clips"] == 3
    assert data.what_if({"match.min_iou": 0.1, "clip.min_sharpness": 0.03})["seconds"] == 40.0
    assert data.what_if({"clip.min_sharpness": 0.2})["matched_clips"] == 1
    assert data.what_if({"match.min_iou": 0.9, "match.sufficient_iou": None})["pairs"] == 0
    blurred = data.histograms()[0]
    assert (sum(blurred["kept"]), sum(blurred["dropped"]), blurred["threshold"]) == (2, 1, 0.1)


def test_two_runs_are_compared_clip_by_clip(output: Path, tmp_path: Path) -> None:
    config = CONFIG | {"clip": {**CONFIG["clip"], "min_sharpness": 0.2}}
    rows = {
        "videos": [{"uri": "file:///x", "video_id": VIDEO, "status": "kept"}],
        "clips": [clip(0, 0, 10, caption="Other words"), clip(1, 30, 40)],
        "rejects": [lost("blurred", "sharpness 0.15 is below", 10, 20)],
    }
    found = compare(Inspected(output), Inspected(write(tmp_path / "new", rows, config))).page(0, 9)
    assert found["counts"] == {"lost": 1, "gained": 1, "captions": 1}
    assert found["settings"] == {"clip.min_sharpness": [0.1, 0.2]}
    assert [row["why"] for row in found["rows"] if row["kind"] != "captions"] == [
        "clip: blurred",
        "match: no_match",
    ]


def get(output: Path | str, path: str, host: str = "127.0.0.1", **headers: str) -> httpx.Response:
    return answered(output, [(path, headers)], host)[0]


def answered(
    output: Path | str, requests: list[tuple[str, dict[str, str]]], host: str = "127.0.0.1"
) -> list[httpx.Response]:
    async def answers() -> list[httpx.Response]:
        transport = httpx.ASGITransport(Server(output).app("127.0.0.1"), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return [await client.get(path, headers=headers) for path, headers in requests]

    return asyncio.run(answers())


def test_media_come_by_range_and_from_this_dataset_only(output: Path) -> None:
    film = (output.parent / "my video.mp4").read_bytes()
    whole = get(output, f"/media/{VIDEO}")
    assert (whole.status_code, whole.content) == (200, film)
    part = get(output, f"/media/{VIDEO}", Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, film[10:20])
    assert part.headers["content-type"] == "video/mp4"
    assert get(output, f"/media/{VIDEO}", Range="bytes=999999-").status_code == 416
    for name in (
        OTHER, "1" * 16, "", "%2e%2e", "..%2fsecret.txt", "%2fetc%2fpasswd",
        VIDEO.upper() + "x",
        f"{VIDEO}%00", f"{VIDEO}%2f..%2f..%2fsecret.txt", "None", "null", "\u0660" * 16,
    ):  # fmt: skip
        answer = get(output, f"/media/{name}")
        assert answer.status_code == 404 and "secret" not in answer.text, name
        answer = get(output, f"/frames/{name}/0")
        assert answer.status_code == 404 and "secret" not in answer.text, name


PIECES = (
    "..", ".", "/", "//", "\\", "%2f", "%252f", "%5c", "%00", "%2e%2e", "%c0%af", "%ff", "\u202e", ";", "~",
    "file:", "file%3a%2f%2f", "etc/passwd", "secret.txt", "my%20video.mp4", "0", "f",
    VIDEO, VIDEO[:15], "\u0660",
)  # fmt: skip


def test_no_generated_address_leads_out_of_the_dataset(output: Path) -> None:
    dice = random.Random(0)
    names = ["".join(dice.choices(PIECES, k=dice.randrange(1, 7))) for _ in range(300)]
    paths = [f"/{route}/{name}" for name in names if name != VIDEO for route in ("media", "frames")]
    answers = answered(output, [(path, {}) for path in paths])
    for path, answer in zip(paths, answers, strict=True):
        assert answer.status_code in (400, 404) or VIDEO in path, path
        assert answer.status_code < 500 and "secret" not in answer.text, path


def test_generated_ranges_are_answered_with_their_bytes(output: Path) -> None:
    film = (output.parent / "my video.mp4").read_bytes()
    dice = random.Random(0)
    ends = ["", "0", "1", "9", str(len(film) - 1), str(len(film)), "9" * 20, "-1", "x", " "]
    one = [f"bytes={dice.choice(ends)}-{dice.choice(ends)}" for _ in range(150)]
    many = [f"{dice.choice(one)},{dice.choice(ends)}-{dice.choice(ends)}" for _ in range(50)]
    ranges = [*one, *many, "bytes", "bytes=", "=", "octets=0-1", "bytes=0-0," * 50]
    answers = answered(output, [(f"/media/{VIDEO}", {"Range": text}) for text in ranges])
    for text, answer in zip(ranges, answers, strict=True):
        assert answer.status_code in (200, 206, 400, 416), (text, answer.status_code)
        place = answer.headers.get("content-range", "")
        if answer.status_code == 206 and place:
            first, last = place.removeprefix("bytes ").partition("/")[0].split("-")
            assert answer.content == film[int(first) : int(last) + 1], text
        if answer.status_code == 200:
            assert answer.content == film


def test_only_videos_are_given_away(output: Path, tmp_path: Path) -> None:
    rows = {"videos": [{"uri": "file:///etc/passwd", "video_id": VIDEO, "status": "kept"}]}
    other = write(tmp_path / "other", rows)
    for path in (f"/media/{VIDEO}", f"/frames/{VIDEO}/0"):
        answer = get(other, path)
        assert answer.status_code == 404 and "cannot be read as a video" in answer.text
    (tmp_path / "my video.mp4").unlink()
    assert "not on this machine" in get(output, f"/media/{VIDEO}").text


def test_pictures_come_from_the_packed_frames_else_from_the_video(output: Path) -> None:
    assert grey(get(output, f"/frames/{VIDEO}/7200").content) == pytest.approx(70, abs=4)
    assert grey(get(output, f"/frames/{VIDEO}/999999").content) == pytest.approx(190, abs=4)
    packed = output / "_work" / "frames" / VIDEO[:2] / f"{VIDEO}.zip"
    packed.parent.mkdir(parents=True)
    with FramePacker(packed) as packer:
        packer.add(7.0, encoded(np.full((48, 64, 3), 250, np.uint8), 90))
    assert grey(get(output, f"/frames/{VIDEO}/7200").content) == pytest.approx(250, abs=4)


def push(output: Path, url: str, media: str) -> None:
    """Upload a dataset whose video is in the bucket too."""
    store = Store(url)
    files = {path.relative_to(output).as_posix(): path for path in sorted(output.rglob("*.parquet"))}
    files["run.json"] = output / "run.json"
    described = {
        name: File(path=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), rows=0)
        for name, path in files.items()
        for data in [path.read_bytes()]
    }
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, input_root=media,
        tables={table: [described[f"{table}/part-all.parquet"]] for table in TABLES},
        files=[described["run.json"]],
    )  # fmt: skip
    for name, path in files.items():
        store.put(name, path)
    store.put("manifest.json", manifest.dump())


def test_a_dataset_in_a_bucket(output: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEOAUTEUR_CACHE", str(output.parent / "cache"))
    rows = {
        "videos": [
            {"uri": "a film.mp4", "video_id": VIDEO, "status": "kept", "title": "Soup"},
            {"uri": "file:///etc/passwd", "video_id": OTHER, "status": "kept"},
            {"uri": "gone.mp4", "video_id": "1" * 16, "status": "kept"},
        ],
        "clips": [clip(0, 0, 10), clip(1, 10, 20)],
    }
    film = (output.parent / "my video.mp4").read_bytes()
    Store(f"{bucket}/in").put("a film.mp4", film)
    place = f"{bucket}/dataset"
    push(write(output.parent / "local", rows), place, f"{bucket}/in/")
    overview = get(place, "/api/overview").json()
    assert (overview["output"], overview["rows"]["clips"]) == ("dataset", 2)
    assert get(place, "/api/search?text=hands").json()["clips"]["total"] == 2
    assert get(place, f"/api/video?id={VIDEO}").json()["missing"] is None
    assert get(place, f"/media/{VIDEO}").content == film
    part = get(place, f"/media/{VIDEO}", Range="bytes=-5")
    assert (part.status_code, part.content) == (206, film[-5:])
    assert part.headers["content-range"] == f"bytes {len(film) - 5}-{len(film) - 1}/{len(film)}"
    assert get(place, f"/media/{VIDEO}", Range="bytes=999999-").status_code == 416
    assert grey(get(place, f"/frames/{VIDEO}/7200").content) == pytest.approx(70, abs=4)
    assert "machine that made this dataset" in get(place, f"/media/{OTHER}").text
    assert "no longer in its bucket" in get(place, f"/frames/{'1' * 16}/0").text
    missing = get(f"{bucket}/nothing", "/api/overview")
    assert missing.status_code == 503 and "videoauteur push" in missing.text


def test_another_host_s_page_cannot_ask(output: Path) -> None:
    assert get(output, "/api/overview", host="evil.example").status_code == 400
    assert get(output, f"/media/{VIDEO}", host="evil.example").status_code == 400


def test_questions_are_answered_and_wrong_ones_refused(output: Path) -> None:
    overview = get(output, "/api/overview").json()
    assert overview["videos"] == {"kept": 2, "rejected": 1}
    assert {(row["kind"], row["reason"], row["count"]) for row in overview["rejects"]} == {
        ("clip", "no_match", 1), ("clip", "blurred", 1), ("file", "corrupt", 1),
    }  # fmt: skip
    assert get(output, "/api/videos?text=TEA").json()["total"] == 1
    assert get(output, "/api/videos?status=kept&limit=1").json()["total"] == 2
    assert get(output, "/api/search?text=onerror").json()["clips"]["total"] == 1
    assert get(output, "/api/rejects?kind=file").json()["rows"][0]["detail"] == HOSTILE
    assert get(output, f"/api/video?id={VIDEO}").json()["missing"] is None
    assert "https://" in get(output, f"/api/video?id={OTHER}").json()["missing"]
    assert get(output, "/api/video?id=../x").status_code == 404
    assert get(output, "/api/compare").status_code == 404
    for question in (
        "videos?limit=-1", "videos?limit=1e9", "videos?offset=x", "what-if?clip.min_sharpness=NaN",
        "what-if?match.min_iou=null", "what-if?run.runner=0", "what-if?match.min_iou=1e999",
    ):  # fmt: skip
        assert get(output, f"/api/{question}").status_code == 422, question


def test_pages_name_no_other_host_and_forbid_scripts_of_others(output: Path) -> None:
    for path in ("/", "/inspect.js", "/inspect.css"):
        answer = get(output, path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in answer.text and "insertAdjacentHTML" not in answer.text


@pytest.fixture
def address(output: Path) -> Iterator[str]:
    """Address of the inspector over the dataset."""
    with listening(Server(output).app("127.0.0.1")) as url:
        yield url


def test_a_browser_goes_from_the_funnel_to_a_moment_of_a_video(address: str) -> None:
    with browsing() as browser:
        browser.open(address)
        browser.click("a[href*='reason=blurred']")
        browser.wait_for(lambda: "Dropped clips: clip, blurred" in browser.text("h2"))
        assert "below clip.min_sharpness 0.1" in browser.text("#main")

        # By keyboard alone: the search field has the focus.
        browser.open(f"{address}/#/search")
        browser.type("#main input:focus", f"Fry{ENTER}")
        browser.click("#main td a")
        browser.wait_for(lambda: browser.run("return document.querySelector('video')?.readyState > 0"))
        browser.wait_for(lambda: browser.run("return document.querySelector('video').currentTime") == 11)
        # A caption with markup is text.
        assert "<img src=x onerror=alert(1)>" in browser.text("#main")
        assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0
        browser.click(".track[aria-label=clips] button[aria-label^='0:10.0']")
        browser.wait_for(lambda: browser.run("return document.querySelector('video').currentTime") == 10)
        for page in ("", "#/videos", "#/search", "#/tune", f"#/video?id={VIDEO}"):
            browser.resize(390)
            browser.open(f"{address}/{page}")
            browser.wait_for(lambda: browser.text("h2"))
            assert browser.fits(), page
        assert browser.errors() == []


def test_a_slider_moved_by_keys_recounts_and_names_the_option(address: str) -> None:
    with browsing() as browser:
        browser.open(f"{address}/#/tune")
        browser.type("[id='match.min_iou']", LEFT * 15)
        browser.wait_for(lambda: browser.text("pre") == "--set match.min_iou=0.1")
        browser.wait_for(lambda: "of these, with an action\t2\t3\t1" in browser.text("table"))
        assert browser.errors() == []
