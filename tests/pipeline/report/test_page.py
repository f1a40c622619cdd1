"""The report shows what happened, and nothing that a stranger wrote can act in it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from jinja2 import UndefinedError
from numpy.typing import NDArray

from models.ledger import Total
from pipeline.curation.config import Config
from pipeline.curation.ingest import Source
from pipeline.curation.rows import duplicate_row, rows_of
from pipeline.dataset.reading import open_dataset
from pipeline.dataset.tables import Rows, write_tables
from pipeline.report import page as report_page
from pipeline.report.page import clock, cut, share, write_report
from pipeline.report.samples import Pictures, extremes, spread
from pipeline.report.text_statistics import text_statistics
from stages.frames import FramePacker, encoded
from stages.reasons import Kind, Reason
from stages.records import Drop, Narrative, Video
from tests.support.videos import DETAIL, fried_onions

EVIL = '<script>alert("x")</script><img src=http://evil.example/ onerror=alert(1)>'
HARMLESS_TAGS = frozenset(
    "html head meta title style body header main nav section article h1 h2 h3 p a em small code "
    "bdi br span div dl dt dd ul ol li table thead tbody tr th td figure figcaption img "
    "svg path rect text details summary pre".split()
)


class Page(HTMLParser):
    """Tags, rows and text of a page, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in_cell = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data

    def all(self, tag: str, name: str) -> list[str]:
        """An attribute's values in all tags of a kind that have it."""
        return [values[name] for found, values in self.tags if found == tag and name in values]

    def row(self, *start: str) -> list[str]:
        """The table row that starts so, without its bar."""
        found = [[cell.strip() for cell in row if cell.strip()] for row in self.rows]
        return next(row for row in found if row[: len(start)] == list(start))


def source_of(video: Video) -> Source:
    return Source(uri=video.uri, content_id=video.content_id)


RUN = {
    "videoauteur": "0", "schema_version": 2, "machine": "here, 2 processors",
    "config": Config().model_dump(mode="json"), "config_origins": {"clip.max_s": "--set"},
}  # fmt: skip


def write(output: Path, videos: Sequence[Video], /, *more: Rows, **changes: Any) -> Page:
    """Write the tables and the report, and read it."""
    output.mkdir(exist_ok=True)
    rows = [rows_of(source_of(video), video) for video in videos]
    counts = write_tables(output, [*rows, *more], max_shard=10**8, max_row_group=10**8)
    kept = sum(video.rejected is None for video in videos)
    summary = {
        "rows": counts,
        "no_videos": 0,
        "videos": {"kept": kept, "rejected": len(videos) - kept, "duplicate": len(more)},
        "stages": {
            "probe": {"seconds": 0.5, "video_s": 30.0, "measured": 2, "rejected": 1},
            "caption": {"seconds": 1.5, "measured": 1, "remembered": 1, "failed": 3},
        },
        "ledger": [],
        "text": text_statistics(output),
        "seconds": 71.0,
    }
    path = write_report(output, summary | changes, pictures=pictures_of(output), run=RUN)
    assert path == output / "report.html"
    return Page(path.read_text(encoding="utf-8"))


def pictures_of(output: Path) -> Pictures:
    return Pictures(scratch=output / "_work", input_root="file:///in/")


def pack_frames(output: Path, video: Video) -> None:
    """Packed frames, two a second; the grey level tells the time."""
    target = output / "_work" / "frames" / video.video_id[:2] / f"{video.video_id}.zip"
    target.parent.mkdir(parents=True)
    with FramePacker(target) as packer:
        for index in range(80):
            packer.add(index / 2, encoded(np.full((360, 640, 3), 3 * index, np.uint8), 90))


def decoded(source: str) -> NDArray[np.uint8]:
    """The picture ``[h, w, 3]`` in a ``data:`` URI."""
    jpeg = np.frombuffer(base64.b64decode(source.split(",")[1]), np.uint8)
    picture: NDArray[np.uint8] | None = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def test_shows_what_happened(tmp_path: Path) -> None:
    fried = fried_onions("file:///in/fried%20onions%20%C3%A0%20la%20Boulud.mp4")
    mute = Video(uri="file:///in/mute.mp4", video_id="f" * 16, content_id="f" * 64)
    mute = mute.reject("probe", Reason.NO_AUDIO, "no audio stream")
    copy = Source(uri="file:///in/again/copy.mp4", content_id=fried.content_id)
    copied: Rows = {"videos": [duplicate_row(copy, source_of(fried), fried)]}

    asked = Total(
        stage="refine", model="<m>", requests=1200, failed=3, unfinished=1, remembered=7,
        input_tokens=9000, output_tokens=800, usd=0.5, at_most_usd=0.75,
    )  # fmt: skip

    page = write(tmp_path, [fried, mute], copied, ledger=[asdict(asked)])

    assert "3 videos in: 1 kept, 1 rejected, 1 duplicate" in page.text
    assert "1:11.0 of wall time" in page.text
    assert page.row("videos kept") == ["videos kept", "1", "33.3\xa0%"]
    assert page.row("clip candidates") == ["clip candidates", "4", "100.0\xa0%"]
    assert page.row("clips kept") == ["clips kept", "2", "50.0\xa0%"]
    assert page.row("actions found") == ["actions found", "4", "100.0\xa0%"]
    assert page.row("actions matched") == ["actions matched", "2", "50.0\xa0%"]
    assert page.row("probe", "no_audio") == [
        "probe",
        "no_audio",
        "1",
        "33.3\xa0%",
        "no audio stream",
    ]
    assert page.row("watermark") == ["watermark", "watermark", "1", "25.0\xa0%", DETAIL]
    assert page.row("refine")[:3] == ["refine", "not_an_action", "1"]
    assert page.row("probe", "0.50") == ["probe", "0.50", "25.0\xa0%", "60.0", "2", "0", "1", "0"]
    assert page.row("caption") == ["caption", "1.50", "75.0\xa0%", "0.0", "1", "1", "0", "3"]
    assert page.row("refine", "<m>") == [
        "refine", "<m>", "1,200", "3", "1", "7", "9,000", "800", "0.5000", "0.7500",
    ]  # fmt: skip
    assert page.row("again/copy.mp4") == ["again/copy.mp4", "in/fried onions à la Boulud.mp4"]
    assert "2 of 2 kept clips" in page.text
    for shown in (
        "A knife cuts an onion.",
        "tiny-captioner",
        "0:10.0 to 0:20.0",
        "0.17",
        "Fry it.",
    ):
        assert shown in page.text
    assert "fried onions à la Boulud.mp4" in page.text
    assert "How to fry onions?" in page.text
    assert "4 shots; 2 clips kept, 2 dropped; 2 of 3 actions matched, 1 dropped" in page.text


def test_time_line_says_why_a_clip_was_dropped(tmp_path: Path) -> None:
    page = write(tmp_path, [fried_onions("file:///in/soup.mp4")])
    assert f"0:20.0 to 0:30.0: dropped by watermark, watermark: {DETAIL}" in page.text
    assert "dropped: no_match" in page.text
    marks = [(values["class"], values["x"]) for tag, values in page.tags if tag == "rect" and "x" in values]
    assert ("watermark", "500.0") in marks
    assert ("solid", "250.0") in marks
    assert ("hollow", "550.0") in marks
    assert any(
        label.startswith("Time line of soup.mp4: 4 shots") for label in page.all("svg", "aria-label")
    )


@pytest.mark.parametrize("with_frames", [False, True])
def test_strangers_can_only_be_read(tmp_path: Path, with_frames: bool) -> None:
    uri = "file:///in/%3Cscript%3Ealert%281%29%3C%2Fscript%3E%FF%00.mp4"
    video = fried_onions(uri, caption=EVIL + "\x00")
    evil_drop = Drop(kind=Kind.CLIP, stage="clip", reason=Reason.STILL, detail=EVIL)
    video = replace(
        video,
        actions=[replace(action, text=EVIL) for action in video.actions],
        captions=[replace(caption, model=EVIL) for caption in video.captions],
        narrative=Narrative(title=EVIL, steps=[]),
    ).drop(evil_drop)
    broken = Video(uri=uri + EVIL, video_id="0" * 16, content_id="0" * 64)
    if with_frames:
        pack_frames(tmp_path, video)

    page = write(tmp_path, [video, broken.reject("probe", Reason.CORRUPT, EVIL)])

    assert page.text.count(EVIL) >= 10
    assert "<script>alert(1)</script>\ufffd\ufffd.mp4" in page.text
    assert "\x00" not in page.text
    assert {tag for tag, _ in page.tags} <= HARMLESS_TAGS
    names = {name for _, values in page.tags for name in values}
    assert not {name for name in names if name.startswith("on")} | names & {
        "srcset",
        "data",
        "action",
    }
    assert all(link.startswith("#") for link in page.all("a", "href"))
    assert not page.all("link", "href")
    sources = [values["src"] for _, values in page.tags if "src" in values]
    # Two samples, and both clips at either end of four scores.
    assert len(sources) == (2 + 2 * 2 * 4 if with_frames else 0)
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    assert "default-src 'none'" in page.all("meta", "content")[0]


def test_thumbnails_are_small_and_from_the_middle_of_the_clip(tmp_path: Path) -> None:
    video = fried_onions("file:///in/soup.mp4")
    pack_frames(tmp_path, video)
    page = write(tmp_path, [video])
    pictures = [decoded(source) for source in page.all("img", "src")][:2]
    assert [picture.shape for picture in pictures] == [(135, 240, 3)] * 2
    # The clips' middles are 5 s and 15 s: frames 10 and 30.
    assert [round(float(picture.mean())) for picture in pictures] == pytest.approx([30, 90], abs=2)
    assert all("A knife cuts an onion." in alt for alt in page.all("img", "alt"))


def test_best_and_worst_clips_are_found_by_score(tmp_path: Path) -> None:
    videos = []
    for index in range(5):
        video = fried_onions(f"file:///in/{index}.mp4", caption=f"Pan {index}")
        scores = [0.1 * index, 0.1 * index + 0.05, None, None]
        clips = [replace(clip, motion=motion) for clip, motion in zip(video.clips, scores, strict=True)]
        videos.append(replace(video, clips=clips))
    write(tmp_path, videos)
    found = extremes(open_dataset(tmp_path), pictures_of(tmp_path))
    ends = {end.label: [sample.clip["motion"] for sample in end.samples] for end in found}
    assert ends["stillest"] == [0.0, 0.05, 0.1]
    assert ends["liveliest"] == [0.45, 0.4, pytest.approx(0.35)]
    names = {end.label: [sample.name for sample in end.samples] for end in found}
    assert names["stillest"] == ["0.mp4", "0.mp4", "1.mp4"]
    assert {end.label: end.settings for end in found if end.settings} == {
        "blurriest": ["clip.min_sharpness"],
        "darkest": ["clip.min_exposure"],
        "brightest": ["clip.max_exposure"],
        "stillest": ["clip.min_motion"],
        "most like a watermark": ["watermark.threshold"],
    }


def test_frames_that_cannot_be_read_leave_a_gap(tmp_path: Path) -> None:
    video = fried_onions("file:///in/soup.mp4")
    pack_frames(tmp_path, video)
    packed = next((tmp_path / "_work").rglob("*.zip"))
    packed.write_bytes(packed.read_bytes()[:5000])
    page = write(tmp_path, [video])
    assert not page.all("img", "src")
    assert "frames no longer there" in page.text


def test_an_empty_dataset_has_a_report(tmp_path: Path) -> None:
    page = write(tmp_path, [], videos={}, stages={})
    assert page.row("videos in") == ["videos in", "0", "0.0\xa0%"]
    for shown in ("No clip was kept.", "None was dropped.", "There are no videos."):
        assert shown in page.text


def test_a_length_may_be_unknown(tmp_path: Path) -> None:
    page = write(tmp_path, [replace(fried_onions("file:///in/soup.mp4"), facts=None, evidence=None)])
    assert "unknown length; 0 shots; 2 clips kept" in page.text


def test_draws_a_bounded_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = [fried_onions(f"file:///in/{index:03d}.mp4") for index in range(70)]
    page = write(tmp_path, videos)
    assert "24 of 140 kept clips" in page.text
    assert "The first 50 of 70 videos" in page.text
    assert sum(tag == "article" for tag, _ in page.tags) == 50
    assert sum(tag == "figure" for tag, _ in page.tags) == 24

    first = (tmp_path / "report.html").read_bytes()
    write(tmp_path, videos)
    assert (tmp_path / "report.html").read_bytes() == first

    # One of these videos has 10 marks: 2 clips, 3 actions, 2 pairs and 3 drops.
    monkeypatch.setattr(report_page, "MAX_MARKS", 25)
    page = write(tmp_path, videos)
    assert sum(label.startswith("Time line") for label in page.all("svg", "aria-label")) == 2
    assert page.text.count("Not drawn") == 48


def test_a_report_that_fails_leaves_the_last_one(tmp_path: Path) -> None:
    videos = [fried_onions("file:///in/soup.mp4")]
    write(tmp_path, videos)
    before = (tmp_path / "report.html").read_bytes()
    with pytest.raises(UndefinedError):
        write(tmp_path, videos, rows={})
    assert (tmp_path / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("time_s", "shown"),
    [
        (0.0, "0:00.0"),
        (59.96, "1:00.0"),
        (75.25, "1:15.2"),
        (3599.99, "1:00:00.0"),
        (3725.5, "1:02:05.5"),
    ],
)
def test_clock(time_s: float, shown: str) -> None:
    assert clock(time_s) == shown
    assert clock(time_s, tenths=False) == shown[:-2]


@pytest.mark.parametrize(
    ("part", "whole", "percent"), [(1, 3, 33.3), (0, 5, 0.0), (0, 0, 0.0), (2, 2, 100.0)]
)
def test_share(part: int, whole: int, percent: float) -> None:
    assert share(part, whole) == percent


@pytest.mark.parametrize(
    ("length", "count", "chosen"),
    [(0, 3, []), (2, 3, [0, 1]), (9, 3, [1, 4, 7]), (10, 1, [5]), (5, 4, [0, 1, 3, 4])],
)
def test_spread(length: int, count: int, chosen: list[int]) -> None:
    assert spread(range(length), count) == chosen


@pytest.mark.parametrize(
    ("text", "shown"), [(None, ""), ("abcde", "abcde"), ("abcdef", "abcd…"), ("abc def", "abc…")]
)
def test_cut(text: str | None, shown: str) -> None:
    assert cut(text, 5) == shown


def test_texts_are_counted_over_the_dataset(tmp_path: Path) -> None:
    page = write(tmp_path / "none", [])
    assert "words an action" in page.text and "–" in page.text
