"""Overlays are found by two witnesses, and a clip that carries one is dropped with its place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from examples.drawing import Watermark as Mark
from examples.drawing import moving_blobs
from examples.media import Scene, write_video
from models.language import Endpoint
from models.screen_text import TextBox
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from stages.base import Workspace
from stages.records import Kind, OverlayBox, Reason, Transcript, Video, Watermark
from stages.transcribe import Transcribe
from stages.watermark.stage import Box, FilterWatermarks, box_iou, judge_overlay, persistent_text
from tests.support.chat import Store
from tests.support.records import clip

CORNER: Box = (0.8, 0.0, 1.0, 0.1)
MIDDLE: Box = (0.4, 0.4, 0.6, 0.5)


def text(words: str, box: Box = CORNER) -> TextBox:
    return TextBox(text=words, box=box, score=0.9)


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
    ("seen", "found"),
    [
        ([], []),
        # The share of frames counts in full from three shots on, by half with two, not with one.
        ([(shot, [text("TV")]) for shot in (0, 1, 2)], [(CORNER, 1.0, "TV")]),
        ([(shot, [text("TV")]) for shot in (0, 0, 1)], [(CORNER, 0.5, "TV")]),
        ([(shot, [text("TV")]) for shot in (0, 0, 0, 0)], [(CORNER, 0.0, "TV")]),
        ([(0, [text("TV")]), (1, []), (2, [text("TV")]), (3, [text("TV")])], [(CORNER, 0.75, "TV")]),
        # Seen twice is chance.
        ([(0, [text("TV")]), (1, [text("TV")]), (2, [])], []),
        # The same words elsewhere, and other words in the same place, are something else.
        ([(0, [text("Chop")]), (1, [text("Fry it")]), (2, [text("Serve")])], []),
        ([(0, [text("TV")]), (1, [text("TV", MIDDLE)]), (2, [text("TV", (0, 0, 0.1, 0.1))])], []),
        # Small slips of the reader are forgiven, in letters and in place.
        (
            [(0, [text("CookTV")]), (1, [text("Cook TV")]), (2, [text("cooktv", (0.81, 0, 1, 0.1))])],
            [(CORNER, 1.0, "CookTV")],
        ),
        # Best first.
        (
            [(0, [text("a pan", MIDDLE), text("TV")]), (1, [text("a pan", MIDDLE), text("TV")]),
             (2, [text("a pan", MIDDLE), text("TV")]), (3, [text("TV")])],
            [(CORNER, 1.0, "TV"), (MIDDLE, 0.75, "a pan")],
        ),
    ],
)  # fmt: skip
def test_text_that_stays_while_the_shots_change(
    seen: list[tuple[int, list[TextBox]]], found: list[tuple[Box, float, str]]
) -> None:
    assert [(place.box, place.score, words) for place, words in persistent_text(seen)] == found


OVERLAY = OverlayBox(box=CORNER, score=0.9)
TEXT_THERE = (OverlayBox(box=(0.85, 0.02, 0.99, 0.08), score=0.4), "TV")
TEXT_ELSEWHERE = (OverlayBox(box=MIDDLE, score=0.95), "Subscribe")


@pytest.mark.parametrize(
    ("overlays", "lasting", "score", "box", "words"),
    [
        ([], [], 0.0, None, ""),
        ([OVERLAY], [], 0.9, CORNER, ""),
        ([], [TEXT_THERE], 0.4, TEXT_THERE[0].box, "TV"),
        ([OVERLAY], [TEXT_THERE], 0.9, CORNER, "TV"),
        ([OVERLAY], [TEXT_ELSEWHERE], 0.95, MIDDLE, "Subscribe"),
        ([replace(OVERLAY, score=0.96)], [TEXT_ELSEWHERE], 0.96, CORNER, ""),
    ],
)
def test_the_stronger_witness_speaks(
    overlays: list[OverlayBox],
    lasting: list[tuple[OverlayBox, str]],
    score: float,
    box: Box | None,
    words: str,
) -> None:
    assert judge_overlay("c", overlays, lasting) == Watermark(
        clip_id="c", score=score, box=box, text=words, screen_text=[]
    )


def stage(**watermark: object) -> FilterWatermarks:
    stages = build_stages(Config.model_validate({"watermark": watermark}))
    return next(stage for stage in stages if isinstance(stage, FilterWatermarks))


def marked(*scores: float) -> Video:
    """A video whose clips have these scores."""
    clips = [clip(index, 10.0 * index, 10.0 * index + 10) for index in range(len(scores))]
    marks = [
        Watermark(clip_id=one.clip_id, score=score, box=CORNER if score else None, text="", screen_text=[])
        for one, score in zip(clips, scores, strict=True)
    ]
    return Video(uri="file:///v", video_id="v", content_id="v", clips=clips, watermarks=marks)


def test_clips_above_the_threshold_are_dropped_with_score_and_place() -> None:
    video = stage().judge(marked(0.0, 0.5, 0.501, 1.0))
    assert [one.clip_id for one in video.kept_clips] == ["v-c0000", "v-c0001"]
    assert [(drop.kind, drop.item_id, drop.reason, drop.detail) for drop in video.drops] == [
        (Kind.CLIP, "v-c0002", Reason.WATERMARK, "score 0.501, box (0.800, 0.000, 1.000, 0.100)"),
        (Kind.CLIP, "v-c0003", Reason.WATERMARK, "score 1.000, box (0.800, 0.000, 1.000, 0.100)"),
    ]
    assert video.rejected is None
    assert stage(threshold=1).judge(marked(1.0, 1.0)).drops == []


def test_a_video_without_a_clean_clip_is_rejected_with_score_place_and_words() -> None:
    video = marked(0.9)
    video.watermarks[0] = replace(video.watermarks[0], text="O'TV")
    rejected = stage().judge(video).rejected
    assert rejected is not None and rejected.reason is Reason.WATERMARK
    assert rejected.detail == 'score 0.900, box (0.800, 0.000, 1.000, 0.100) reading "O\'TV"'


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
    for one in stages[:5]:
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
    found = re.search(r"score (\S+), box \((\S+), (\S+), (\S+), (\S+)\)(.*)", video.rejected.detail)
    assert found is not None
    score, left, top, right, bottom = (float(number) for number in found.groups()[:5])
    assert score > 0.5
    # The mark stands in the upper right corner: a badge and the words, a sixteenth of the height.
    assert left > 0.7 and right > 0.95 and top < 0.08 and bottom < 0.15
    assert "COOKING" in found.group(6)
