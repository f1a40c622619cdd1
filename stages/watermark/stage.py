"""Find overlays that are not part of the scene: logos, channel names, stock marks, subtitles, title cards.

The packed frames are looked at in windows of consecutive clips, so that memory does not grow with the
length of a video. Text is read only where an overlay was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, TypeAlias

import cv2
import numpy as np

from models.perceptron import Perceptron
from models.screen_text import TextReader
from models.settings import Count, Section, Share
from stages.base import Pool, Stage, Workspace
from stages.clip import drop_clip, frames_in
from stages.frames import jpeg_size, read_frames
from stages.reasons import Reason
from stages.records import Box, Clip, Finding, OverlayKind, Video, Watermark
from stages.watermark.appearance import Appearance
from stages.watermark.drawn import SAME_PLACE, covered, shared
from stages.watermark.evidence import HEAD_FILE, SIDE_PX, THREADS, WHOLE, Candidate, candidates
from stages.watermark.extent import Gray
from stages.watermark.kinds import kind_of

LONG_PX = 640
"""Bound on the long side of what is looked at: memory grows with it."""
MIN_SCORE = 0.1
"""Findings below it are not recorded."""
READ_FROM = 0.3
"""Score from which the text of a finding is read."""
MIN_TEXT_SCORE = 0.6
MAX_TRIES = 3
"""Clips in which the text of an overlay that persists is looked for: most without text there have none."""
WINDOW_PICTURES = 48
MIN_PICTURES = 3
"""Pictures of a clip, at least, as far as it has so many."""
CROP_MARGIN = 0.01
"""Added around an overlay that is cropped away, as a share of the picture."""


class WatermarkMeasuring(Section):
    """Settings of the search for overlays.

    Attributes:
        threads: of the text reader.
    """

    threads: Count = 1


class WatermarkSettings(WatermarkMeasuring):
    """Overlays that are not part of the scene. ``threshold`` 1 keeps everything.

    A clip under an overlay is dropped, unless its kind is one of these:

    Attributes:
        crop: kinds that are cropped away: the part of the picture to use is recorded.
        keep: kinds that are recorded only.
        min_crop_area: share of the picture that cropping must leave; otherwise the clip is dropped.
    """

    threshold: Share = 0.5
    crop: tuple[OverlayKind, ...] = ()
    keep: tuple[OverlayKind, ...] = (OverlayKind.SUBTITLES, OverlayKind.TITLE_CARD)
    min_crop_area: Share = 0.6


Place: TypeAlias = tuple[Clip, bytes]
"""A clip, and a packed frame of it."""


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive clips of a video and some of their packed frames.

    Attributes:
        times_s: of the frames, in order.
        jpegs: the frames.
    """

    clips: Sequence[Clip]
    times_s: Sequence[float]
    jpegs: Sequence[bytes]

    def grays(self) -> list[Gray]:
        """Return the frames as they are looked at; see :func:`small_gray`."""
        with ThreadPoolExecutor(THREADS) as threads:
            return list(threads.map(small_gray, self.jpegs))

    def seen(self, overlay: Candidate) -> list[Place]:
        """Return the clips in which an overlay is seen, with the middle one of the frames that show it."""
        places = []
        for clip in self.clips:
            shown = [
                n
                for n, time_s in enumerate(self.times_s)
                if clip.start_s <= time_s < clip.end_s and overlay.shown[n]
            ]
            if shown:
                places.append((clip, self.jpegs[shown[len(shown) // 2]]))
        return places


class FilterWatermarks(Stage):
    """Finds the overlays of every clip, and drops or crops clips by their kind."""

    name: ClassVar[str] = "watermark"
    version: ClassVar[int] = 9
    pool: ClassVar[Pool] = "media"
    reads = ("content_id", "evidence", "kept_clips")
    writes = ("watermarks",)
    needs_frames = True
    rules = ("watermark",)

    measuring = WatermarkMeasuring
    settings: WatermarkSettings

    def __init__(self, settings: WatermarkSettings) -> None:
        self.settings = settings
        self._reader: TextReader | None = None

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self._appearance, self._head = Appearance(), Perceptron.load(HEAD_FILE)

    def close(self) -> None:
        self._reader = None

    def measure(self, video: Video) -> Video:
        assert video.evidence is not None
        findings: dict[str, list[Finding]] = {clip.clip_id: [] for clip in video.kept_clips}
        for window in self.windows(video):
            for finding, clip_id in self._findings(window):
                findings[clip_id].append(finding)
        marks = []
        for clip_id, found in findings.items():
            found.sort(key=lambda finding: -finding.score)
            lines = [line for finding in found for line in finding.text.split("\n") if line]
            marks.append(Watermark(clip_id=clip_id, findings=found, screen_text=list(dict.fromkeys(lines))))
        return video.with_results(watermarks=marks)

    def windows(self, video: Video) -> Iterator[Window]:
        """Yield consecutive clips with the pictures in which their overlays are searched."""
        assert video.evidence is not None
        size = WINDOW_PICTURES // MIN_PICTURES
        count = -(-len(video.kept_clips) // size)
        for number in range(count):
            # Windows of about the same size: a last one of a single clip would hold little evidence.
            first, last = (n * len(video.kept_clips) // count for n in (number, number + 1))
            clips = video.kept_clips[first:last]
            inside = [video.evidence.frame_times_s[frames_in(video.evidence, clip)] for clip in clips]
            total = sum(map(len, inside)) or 1
            times: list[float] = []
            for own in inside:
                wanted = max(MIN_PICTURES, round(WINDOW_PICTURES * len(own) / total))
                wanted = min(wanted, len(own))
                times += [own[int((k + 0.5) * len(own) / wanted)] for k in range(wanted)]
            yield Window(clips, times, read_frames(self.workspace.frames_path(video), list(times)))

    def _findings(self, window: Window) -> Iterator[tuple[Finding, str]]:
        """The overlays of some clips, each with the clip that it is seen in."""
        scored = [
            (self._head.probability(one.features), one)
            for one in candidates(window.grays(), self._appearance)
        ]
        scored = merged([(score, one) for score, one in scored if score >= MIN_SCORE])
        if self._reader is None and any(score >= READ_FROM for score, _ in scored):
            # Loading takes seconds, and most videos have nothing to read.
            self._reader = TextReader(threads=self.settings.threads)
        with ThreadPoolExecutor(THREADS) as threads:
            seen = [(score, one, window.seen(one)) for score, one in scored]
            # Reading begins here for all that do not persist.
            read = [self._texts(threads, *each) for each in seen]
            for (score, one, places), texts in zip(seen, read, strict=True):
                shown = sum(one.shown) / len(one.shown)
                for (clip, _), text in zip(places, texts, strict=True):
                    kind = kind_of(one.box, text, persistent=one.persistent > 0 or one.drifts, shown=shown)
                    finding = Finding(kind=kind, box=rounded(one.box), score=round(score, 4), text=text)
                    yield finding, clip.clip_id

    def _texts(
        self, threads: ThreadPoolExecutor, score: float, one: Candidate, places: Sequence[Place]
    ) -> Iterator[str]:
        """Return the words of an overlay in each of its places: the same in all for one that persists."""
        if score < READ_FROM:
            return iter([""] * len(places))
        if one.persistent:
            return self._lasting(one.box, places)
        return threads.map(partial(self._read, one.box), [jpeg for _, jpeg in places])

    def _lasting(self, box: Box, places: Sequence[Place]) -> Iterator[str]:
        text = ""
        for tries, (_, jpeg) in enumerate(places):
            if not text and tries < MAX_TRIES:
                text = self._read(box, jpeg)
            yield text

    def _read(self, box: Box, jpeg: bytes) -> str:
        """The lines in a part of a packed frame."""
        assert self._reader is not None
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        height, width = picture.shape[:2]
        rim = 0.03 * min(height, width)
        x0, y0 = max(0, int(box[0] * width - rim)), max(0, int(box[1] * height - rim))
        x1, y1 = int(box[2] * width + rim), int(box[3] * height + rim)
        lines = self._reader.read(np.asarray(picture[y0:y1, x0:x1], np.uint8))
        return "\n".join(line.text for line in lines if line.score >= MIN_TEXT_SCORE)

    def judge(self, video: Video) -> Video:
        marks = {mark.clip_id: mark for mark in video.watermarks}
        drops = []
        for clip in video.kept_clips:
            mark = marks[clip.clip_id]
            worst = self._worst(mark)
            if worst is not None:
                drops.append(drop_clip(clip, self.name, Reason.WATERMARK, described(worst)))
            elif (crop := self._crop(mark)) != mark.crop:
                marks[clip.clip_id] = replace(mark, crop=crop)
        video = replace(video, watermarks=[marks[mark.clip_id] for mark in video.watermarks]).drop(*drops)
        if not video.kept_clips:
            video = video.reject(self.name, Reason.WATERMARK, drops[0].detail)
        return video

    def _counted(self, mark: Watermark, kinds: Sequence[OverlayKind] | None = None) -> list[Finding]:
        return [
            finding for finding in mark.findings
            if finding.score > self.settings.threshold and (kinds is None or finding.kind in kinds)
        ]  # fmt: skip

    def _worst(self, mark: Watermark) -> Finding | None:
        """The finding that rejects a clip, if any."""
        allowed = (*self.settings.keep, *self.settings.crop)
        for finding in self._counted(mark):
            if finding.kind not in allowed:
                return finding
        crop = self._crop(mark)
        if crop is not None and (crop[2] - crop[0]) * (crop[3] - crop[1]) < self.settings.min_crop_area:
            return self._counted(mark, self.settings.crop)[0]
        return None

    def _crop(self, mark: Watermark) -> Box | None:
        """The part of the picture that is free of what is to be cropped away; None for all of it."""
        boxes = [finding.box for finding in self._counted(mark, self.settings.crop)]
        return free_part(boxes) if boxes else None


def described(finding: Finding) -> str:
    """Score, kind, place and words of a finding."""
    place = ", ".join(f"{edge:.3f}" for edge in finding.box)
    text = f" reading {' '.join(finding.text.split())!r}" if finding.text else ""
    return f"{finding.kind}, score {finding.score:.3f}, box ({place}){text}"


def small_gray(jpeg: bytes) -> Gray:
    """Return a packed frame as luma: short side at most ``SIDE_PX``, long side at most ``LONG_PX``."""
    # Half-size decoding costs a third.
    halved = min(jpeg_size(jpeg)) >= 2 * SIDE_PX - 1
    mode = cv2.IMREAD_REDUCED_GRAYSCALE_2 if halved else cv2.IMREAD_GRAYSCALE
    gray = cv2.imdecode(np.frombuffer(jpeg, np.uint8), mode)
    assert gray is not None
    scale = min(SIDE_PX / min(gray.shape), LONG_PX / max(gray.shape))
    if scale < 1:
        size = (round(gray.shape[1] * scale), round(gray.shape[0] * scale))
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(gray, np.uint8)


def merged(scored: list[tuple[float, Candidate]]) -> list[tuple[float, Candidate]]:
    """Join candidates that are parts of one overlay: of the same place, lines above each other, tiles.

    Returns:
        (score, candidate), best first.
    """
    rest = sorted(scored, key=lambda item: -item[0])
    tiles: list[Candidate] = []
    for score, one in rest:
        apart = all(shared(tile.box, one.box) <= SAME_PLACE for tile in tiles)
        if score > 0.5 and one.persistent and apart:
            tiles.append(one)
    if len(tiles) >= 3:
        whole = union([one.box for one in tiles])
        if whole[2] - whole[0] > 0.6 and whole[3] - whole[1] > 0.6:
            best = max(score for score, one in rest if one.persistent)
            shown = tuple(any(flags) for flags in zip(*(one.shown for one in tiles), strict=True))
            # Tiles go on to the rim, though not all are found.
            rest = [(best, replace(tiles[0], box=WHOLE, shown=shown))]
    result: list[tuple[float, Candidate]] = []
    while rest:
        score, one = rest.pop(0)
        near = next(
            (
                n
                for n, (_, kept) in enumerate(result)
                if belongs(kept, one) or shared(kept.box, one.box) > 0.5
            ),
            None,
        )
        if near is None:
            result.append((score, one))
        elif score > READ_FROM:
            best, kept = result[near]
            result[near] = (
                best,
                replace(
                    kept,
                    box=union([kept.box, one.box]),
                    shown=tuple(a or b for a, b in zip(kept.shown, one.shown, strict=True)),
                    # A few strokes that two lines of subtitles share do not make them a mark that stays.
                    persistent=max(kept.persistent, one.persistent * (covered(kept.box, one.box) > 0.5)),
                ),
            )
    return result


def belongs(a: Candidate, b: Candidate) -> bool:
    """Tell whether two candidates look like lines or parts of one overlay."""
    gap_x = max(a.box[0], b.box[0]) - min(a.box[2], b.box[2])
    gap_y = max(a.box[1], b.box[1]) - min(a.box[3], b.box[3])
    height = min(a.box[3] - a.box[1], b.box[3] - b.box[1])
    both = sum(x and y for x, y in zip(a.shown, b.shown, strict=True))
    together = both > 0.7 * max(1, min(sum(a.shown), sum(b.shown)))
    return together and gap_x < height and gap_y < height


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around some boxes."""
    lows, highs = np.array(boxes)[:, :2].min(0), np.array(boxes)[:, 2:].max(0)
    return float(lows[0]), float(lows[1]), float(highs[0]), float(highs[1])


def rounded(box: Box) -> Box:
    """A box with four decimals."""
    x0, y0, x1, y1 = (round(edge, 4) for edge in box)
    return x0, y0, x1, y1


def free_part(boxes: Sequence[Box]) -> Box:
    """Return the largest part of the picture, found side by side, that holds none of the boxes."""
    free: Box = (0.0, 0.0, 1.0, 1.0)
    for box in sorted(boxes):
        x0, y0, x1, y1 = free
        if not (box[0] < x1 and box[2] > x0 and box[1] < y1 and box[3] > y0):
            continue
        parts: list[Box] = [
            (min(box[2] + CROP_MARGIN, x1), y0, x1, y1), (x0, y0, max(box[0] - CROP_MARGIN, x0), y1),
            (x0, min(box[3] + CROP_MARGIN, y1), x1, y1), (x0, y0, x1, max(box[1] - CROP_MARGIN, y0)),
        ]  # fmt: skip
        free = max(parts, key=lambda part: (part[2] - part[0]) * (part[3] - part[1]))
    return rounded(free)


def box_iou(a: Box, b: Box) -> float:
    """Overlap over union of two boxes (x0, y0, x1, y1)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inside = width * height
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return inside / (areas - inside)
