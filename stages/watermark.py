"""Find overlays that are not part of the scene: logos, channel names, stamps.

Two witnesses: parts of the picture that persist while the rest changes (gathered by the scan), and
lines of text that stand in the same place with the same words in frames of different shots.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import SequenceMatcher
from typing import ClassVar

from models.screen_text import TextBox, TextReader
from models.settings import Count, Section, Share
from stages.base import Pool, Stage, Workspace
from stages.clip import drop_clip, frames_in
from stages.frames import read_pictures
from stages.records import Clip, OverlayBox, Reason, Video, Watermark

Box = tuple[float, float, float, float]
SAME_PLACE_IOU = 0.5
SAME_TEXT_RATIO = 0.7
MIN_TEXT_SCORE = 0.6
MIN_SIGHTINGS = 3


class WatermarkMeasuring(Section):
    """How overlays are looked for.

    Attributes:
        read_frames: frames of a video that are read for text, at least; every clip gives one.
        threads: of the text reader.
    """

    read_frames: Count = 4
    threads: Count = 1


class WatermarkSettings(WatermarkMeasuring):
    """Overlays that are not part of the scene. ``threshold`` 1 keeps everything."""

    threshold: Share = 0.5


class FilterWatermarks(Stage):
    """Scores every clip for overlays and drops those above the threshold."""

    name: ClassVar[str] = "watermark"
    pool: ClassVar[Pool] = "media"
    reads = ("content_id", "evidence", "kept_clips")
    writes = ("watermarks",)
    needs_frames = True

    measuring = WatermarkMeasuring
    settings: WatermarkSettings

    def __init__(self, settings: WatermarkSettings) -> None:
        self.settings = settings
        self._reader: TextReader | None = None

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self._reader = TextReader(threads=self.settings.threads)

    def close(self) -> None:
        self._reader = None

    def measure(self, video: Video) -> Video:
        assert video.evidence is not None
        shots = video.evidence.shots
        by_clip = {clip.clip_id: self._read(video, clip) for clip in video.kept_clips}
        seen = [
            (next((i for i, shot in enumerate(shots) if time_s < shot.end_s), len(shots)), lines)
            for frames in by_clip.values()
            for time_s, lines in frames
        ]
        lasting = persistent_text(seen)
        marks = []
        for clip in video.kept_clips:
            lines = [line.text for _, frame in by_clip[clip.clip_id] for line in frame]
            marks.append(
                replace(judge_overlay(clip.clip_id, video.evidence.overlays, lasting),
                        screen_text=list(dict.fromkeys(lines)))
            )  # fmt: skip
        return replace(video, watermarks=marks)

    def _read(self, video: Video, clip: Clip) -> list[tuple[float, list[TextBox]]]:
        """(time, lines) for some frames of a clip."""
        assert self._reader is not None and video.evidence is not None
        times = video.evidence.frame_times_s[frames_in(video.evidence, clip)]
        count = max(1, -(-self.settings.read_frames // len(video.kept_clips)))
        chosen = [times[int((i + 0.5) * len(times) / count)] for i in range(count)] if times else []
        chosen = list(dict.fromkeys(chosen))
        pictures = read_pictures(self.workspace.frames_path(video), chosen)
        return [
            (time_s, [line for line in self._reader.read(picture) if line.score >= MIN_TEXT_SCORE])
            for time_s, picture in zip(chosen, pictures, strict=True)
        ]

    def judge(self, video: Video) -> Video:
        marks = {mark.clip_id: mark for mark in video.watermarks}
        drops = []
        for clip in video.kept_clips:
            mark = marks[clip.clip_id]
            if mark.score > self.settings.threshold and mark.box is not None:
                place = ", ".join(f"{edge:.3f}" for edge in mark.box)
                text = f" reading {mark.text!r}" if mark.text else ""
                detail = f"score {mark.score:.3f}, box ({place}){text}"
                drops.append(drop_clip(clip, self.name, Reason.WATERMARK, detail))
        video = video.drop(*drops)
        if not video.kept_clips:
            video = video.reject(self.name, Reason.WATERMARK, drops[0].detail)
        return video


def persistent_text(seen: list[tuple[int, list[TextBox]]]) -> list[tuple[OverlayBox, str]]:
    """Lines that stand in the same place with the same words, whatever is behind them.

    Args:
        seen: (number of the shot, lines read) for each frame that was read.

    Returns:
        (box and score, text), best first. The score is the share of frames that carry the line,
        scaled by the number of shots it survives: one shot proves nothing, since a label on a jar
        also stands still while the camera does; from three on the share counts in full.
    """
    found: list[tuple[OverlayBox, str]] = []
    pending = [(shot, line) for shot, lines in seen for line in lines]
    while pending:
        _, first = pending[0]
        same = [(shot, line) for shot, line in pending if _same(first, line)]
        pending = [item for item in pending if item not in same]
        shots = {shot for shot, _ in same}
        if len(same) < MIN_SIGHTINGS:
            continue
        score = min(1.0, len(same) / len(seen)) * min(1.0, (len(shots) - 1) / 2)
        found.append((OverlayBox(box=first.box, score=round(score, 4)), first.text))
    return sorted(found, key=lambda item: (-item[0].score, item[0].box))


def _same(a: TextBox, b: TextBox) -> bool:
    return (
        box_iou(a.box, b.box) > SAME_PLACE_IOU
        and SequenceMatcher(None, a.text.lower(), b.text.lower()).ratio() > SAME_TEXT_RATIO
    )


def box_iou(a: Box, b: Box) -> float:
    """Overlap over union of two boxes (x0, y0, x1, y1)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)


def judge_overlay(
    clip_id: str, overlays: list[OverlayBox], lasting: list[tuple[OverlayBox, str]]
) -> Watermark:
    """The stronger of the two witnesses; text names what is written in the overlay's place."""
    candidates = [*((overlay, "") for overlay in overlays), *lasting]
    if not candidates:
        return Watermark(clip_id=clip_id, score=0.0, box=None, text="", screen_text=[])
    best, text = max(candidates, key=lambda item: item[0].score)
    if not text:
        text = next((words for place, words in lasting if box_iou(place.box, best.box) > 0), "")
    return Watermark(clip_id=clip_id, score=best.score, box=best.box, text=text, screen_text=[])
