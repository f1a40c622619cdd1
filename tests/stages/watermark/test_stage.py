"""Overlays are found with kind, place and words, and clips under them are dropped, cropped or flagged."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from examples.drawing import Watermark as Mark
from examples.drawing import moving_blobs
from examples.media import Scene, write_video
from models.language import Endpoint
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from stages.base import Workspace
from stages.frames import jpeg_size
from stages.reasons import Kind, Reason
from stages.records import Box, Finding, OverlayKind, Transcript, Video, Watermark
from stages.transcribe import Transcribe
from stages.watermark.evidence import FEATURES, Candidate
from stages.watermark.stage import FilterWatermarks, box_iou, free_part, merged
from tests.support.chat import Store
from tests.support.records import clip, found

CORNER: Box = (0.8, 0.0, 1.0, 0.1)
MIDDLE: Box = (0.4, 0.4, 0.6, 0.5)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        (CORNER, CORNER, 1.0),
        (CORNER, MIDDLE, 0.0),
        ((0, 0, 0.2, 0.2), (0.1, 0, 0.3, 0.2), 1 / 3),
        ((0, 0, 0.5, 0.5), (0.5, 0, 1, 0.5), 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ],
)
def test_overlap_of_boxes(a: Box, b: Box, iou: float) -> None:
    assert box_iou(a, b) == pytest.approx(iou)
    assert box_iou(b, a) == pytest.approx(iou)


@pytest.mark.parametrize(
    ("boxes", "free"),
    [
        ([(0.8, 0.0, 1.0, 0.1)], (0.0, 0.11, 1.0, 1.0)),
        ([(0.9, 0.0, 1.0, 0.4)], (0.0, 0.0, 0.89, 1.0)),
        ([(0.1, 0.85, 0.9, 0.95)], (0.0, 0.0, 1.0, 0.84)),
        ([(0.8, 0.0, 1.0, 0.1), (0.1, 0.9, 0.9, 0.95)], (0.0, 0.11, 1.0, 0.89)),
    ],
)
def test_the_part_without_overlays(boxes: list[Box], free: Box) -> None:
    assert free_part(boxes) == free


def candidate(box: Box, shown: str, persistent: float = 1.0) -> Candidate:
    return Candidate(
        box=box, features=(0.0,) * len(FEATURES), shown=tuple(letter == "x" for letter in shown),
        persistent=persistent, drifts=False,
    )  # fmt: skip


def test_lines_shown_together_are_one_overlay_and_others_are_not() -> None:
    first, second = (0.3, 0.4, 0.7, 0.45), (0.35, 0.46, 0.6, 0.5)
    together = merged([(0.9, candidate(first, "xx..")), (0.6, candidate(second, "xx.."))])
    assert [(score, one.box) for score, one in together] == [(0.9, (0.3, 0.4, 0.7, 0.5))]
    apart = merged([(0.9, candidate(first, "xx..")), (0.6, candidate(second, "..xx"))])
    assert [(score, one.box) for score, one in apart] == [(0.9, first), (0.6, second)]


def test_an_overlay_stays_in_place_if_most_of_it_does() -> None:
    whole, most, part = (0.5, 0.8, 0.9, 0.9), (0.5, 0.8, 0.8, 0.9), (0.6, 0.8, 0.7, 0.9)
    for box, persistent in ((most, 1.0), (part, 0.0)):
        found = merged([(0.9, candidate(whole, "xxxx", 0.0)), (0.6, candidate(box, "xxxx", 1.0))])
        assert [(score, one.box, one.persistent) for score, one in found] == [(0.9, whole, persistent)]


def test_marks_all_over_the_picture_are_one() -> None:
    boxes: list[Box] = [(0.0, 0.0, 0.2, 0.1), (0.8, 0.1, 1.0, 0.2), (0.1, 0.8, 0.3, 0.9)]
    tiles = [(0.8 - 0.1 * n, candidate(box, "xxxx")) for n, box in enumerate(boxes)]
    assert [(score, one.box) for score, one in merged(tiles)] == [(0.8, (0.0, 0.0, 1.0, 1.0))]
    twice = [(0.9, candidate((0.0, 0.0, 0.2, 0.12), "xxxx")), *tiles[:2]]
    assert len(merged(twice)) == 2


def stage(**watermark: object) -> FilterWatermarks:
    stages = build_stages(Config.model_validate({"watermark": watermark}))
    return next(stage for stage in stages if isinstance(stage, FilterWatermarks))


def marked(*findings: list[Finding]) -> Video:
    """A video whose clips have these findings."""
    clips = [clip(index, 10.0 * index, 10.0 * index + 10) for index in range(len(findings))]
    marks = [
        Watermark(clip_id=one.clip_id, findings=of, screen_text=[])
        for one, of in zip(clips, findings, strict=True)
    ]
    return Video(uri="file:///v", video_id="v", content_id="v", clips=clips, watermarks=marks)


def test_clips_above_the_threshold_are_dropped_with_kind_score_and_place() -> None:
    video = stage(threshold=0.5).judge(marked([], [found(0.5)], [found(0.501)], [found(1.0)]))
    assert [one.clip_id for one in video.kept_clips] == ["v-c0000", "v-c0001"]
    detail = "corner_bug, score {}, box (0.800, 0.000, 1.000, 0.100)"
    assert [(drop.kind, drop.item_id, drop.reason, drop.detail) for drop in video.drops] == [
        (Kind.CLIP, "v-c0002", Reason.WATERMARK, detail.format("0.501")),
        (Kind.CLIP, "v-c0003", Reason.WATERMARK, detail.format("1.000")),
    ]
    assert video.rejected is None
    assert stage(threshold=1).judge(marked([found(1.0)])).drops == []


def test_a_video_without_a_clean_clip_is_rejected_with_score_place_and_words() -> None:
    rejected = stage().judge(marked([found(0.95, "O'TV\nlive")])).rejected
    assert rejected is not None and rejected.reason is Reason.WATERMARK
    assert rejected.detail == (
        'corner_bug, score 0.950, box (0.800, 0.000, 1.000, 0.100) reading "O\'TV live"'
    )


def test_subtitles_and_title_cards_are_recorded_and_kept() -> None:
    spoken = replace(found(0.95), kind=OverlayKind.SUBTITLES)
    card = replace(found(0.95), kind=OverlayKind.TITLE_CARD)
    assert stage().judge(marked([spoken], [card])).drops == []
    # The strongest finding may be kept while a weaker one rejects.
    (drop,) = (one for one in stage().judge(marked([spoken, found(0.92)], [])).drops)
    assert (drop.item_id, drop.detail[:10]) == ("v-c0000", "corner_bug")


def test_a_kind_that_is_cropped_away_leaves_a_crop_box_unless_too_little_is_left() -> None:
    rules = stage(crop=["corner_bug", "stock_centre"])
    across = replace(found(0.95), kind=OverlayKind.STOCK_CENTRE, box=(0.2, 0.4, 0.8, 0.6))
    video = rules.judge(marked([found(0.95)], [across], []))
    assert [mark.crop for mark in video.watermarks] == [(0.0, 0.11, 1.0, 1.0), None, None]
    assert [drop.item_id for drop in video.drops] == ["v-c0001"]
    strict = stage(crop=["corner_bug"], min_crop_area=0.9)
    assert [drop.item_id for drop in strict.judge(marked([found(0.95)], [])).drops] == ["v-c0000"]


@pytest.mark.parametrize("mark", [Mark("COOKING TV"), None], ids=["marked", "clean"])
def test_a_real_mark_is_found_where_it_is_and_read(mark: Mark | None, tmp_path: Path) -> None:
    """Scan, clips and reading together, on three shots."""
    path = tmp_path / "film.mp4"
    colours = ((200, 120, 60), (60, 140, 200), (120, 190, 80))
    scenes = [
        Scene(duration_s=5, picture=moving_blobs(seed, colour)) for seed, colour in enumerate(colours)
    ]
    write_video(path, scenes, width_px=480, height_px=270, fps=5, audio=False, watermark=mark)
    stages = build_stages(Config.model_validate({"transcribe": {"require_speech": False}}))
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
    workspace = Workspace(scratch=tmp_path, answers=Store(), language=nowhere, vision=None)
    video = Video(uri=path.as_uri(), video_id="v" * 16, content_id="v" * 64)
    for one in stages[: 1 + [each.name for each in stages].index("watermark")]:
        if isinstance(one, Transcribe):
            silence = Transcript(language="", sentences=[], model="none")
            video = replace(video, transcript=silence)
            continue
        one.open(workspace)
        video = one(video)
        one.close()
    assert len(video.clips) == len(video.watermarks) == 3
    if mark is None:
        assert video.drops == []
        return
    assert [drop.reason for drop in video.drops if drop.kind is Kind.CLIP] == [Reason.WATERMARK] * 3
    assert video.rejected is not None and video.rejected.reason is Reason.WATERMARK
    seen = re.search(r"score (\S+), box \((\S+), (\S+), (\S+), (\S+)\)(.*)", video.rejected.detail)
    assert seen is not None
    score, left, top, right, bottom = (float(number) for number in seen.groups()[:5])
    assert score > 0.5
    # The mark stands in the upper right corner: a badge and the words, a sixteenth of the height.
    assert left > 0.6 and right > 0.95 and top < 0.08 and bottom < 0.2
    assert "COOKING" in seen.group(6)


@pytest.mark.parametrize(
    ("words", "text", "reads"),
    [
        (["", "TV", "other"], ["", "TV", "TV"], 2),
        (["", "", "", "late"], ["", "", "", ""], 3),
    ],
)
def test_the_text_of_a_lasting_overlay_is_read_once_and_looked_for_in_three_clips(
    words: list[str], text: list[str], reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    watermarks = stage()
    left = iter(words)
    monkeypatch.setattr(watermarks, "_read", lambda box, jpeg: next(left))
    places = [(clip(n, 10.0 * n, 10.0 * n + 10), b"") for n in range(len(words))]
    assert list(watermarks._lasting((0.0, 0.0, 0.1, 0.1), places)) == text
    assert len(list(left)) == len(words) - reads


@pytest.mark.parametrize(("width", "height"), [(640, 360), (33, 900), (1, 1)])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_size_of_a_frame_is_read_from_its_header(width: int, height: int, progressive: bool) -> None:
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    _, jpeg = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), options)
    assert jpeg_size(jpeg.tobytes()) == (width, height)
