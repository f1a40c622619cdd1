"""The values that flow through the curation chain.

A :class:`Video` is one unit of work: references and numbers, never frames or file bytes. Every stage
takes one and returns it enriched. All times are seconds of presentation time, intervals are half-open
``[start_s, end_s)``, scores lie in ``[0, 1]`` unless a field says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, Self

from stages.reasons import Kind, NoMatch, Reason

Box = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` as fractions of the picture's width and height, half-open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A half-open stretch of presentation time, in seconds."""

    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s

    def overlap_s(self, other: Interval) -> float:
        """Return the seconds that both intervals share; 0 if they do not meet."""
        return max(0.0, min(self.end_s, other.end_s) - max(self.start_s, other.start_s))

    def iou(self, other: Interval) -> float:
        """Return overlap over joint extent, in [0, 1] (paper: max(e) - min(s), also if they are apart)."""
        extent = max(self.end_s, other.end_s) - min(self.start_s, other.start_s)
        return self.overlap_s(other) / extent if extent > 0 else 0.0


UNKNOWN_CODEC = "unknown"
"""Name of an audio codec that has no decoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Properties of a file as its container states them.

    Attributes:
        duration_s: length of the pictures; until the scan has measured it, as announced.
        duration_of: ``container`` where only the container announces a length: sound may outlast pictures.
        start_s: when the first picture is shown; 0 until the scan has measured it.
        width_px: displayed width, after rotation, in square pixels.
        height_px: displayed height, after rotation.
        fps: average frame rate; frames may be spaced unevenly.
        rotation_deg: clockwise turn that a player applies: 0, 90, 180 or 270.
        title: the container's own title tag, empty if there is none.
        kbps: kilobits a second of the whole file, sound included; 0 where its length is unknown.
    """

    container: str
    video_codec: str
    audio_codec: str | None
    duration_s: float
    width_px: int
    height_px: int
    fps: float
    rotation_deg: int
    title: str
    duration_of: Literal["pictures", "container"] = "pictures"
    start_s: float = 0.0
    kbps: float = 0.0

    @property
    def has_audio(self) -> bool:
        return self.audio_codec not in (None, UNKNOWN_CODEC)

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Shake(Interval):
    """Shake of the camera over some consecutive pictures.

    Attributes:
        percent: root mean square distance of the picture from a smooth path, in percent of its long side.
    """

    percent: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Measurements of one pass over the frames.

    The four lists run along the packed frames: one entry a frame on the fixed grid.

    Attributes:
        shots: contiguous, from the first frame's time to the end of the last frame.
        frame_times_s: presentation times of the packed frames.
        sharpness: variance of the Laplacian ``v`` on a 256-pixel-wide grey frame, as ``v / (v + 100)``.
        exposure: mean luma, 0 black to 1 white.
        motion: mean absolute luma difference to the previous packed frame.
        transitions: dissolves and fades; a shot begins halfway through one, and no clip may touch it.
        picture_box: part of the picture inside black bars; None for all of it.
        shakes: in bursts of consecutive pictures; empty where shake is not asked for.
        num_frames: frames decoded.
        num_lost: pictures that could not be decoded, or whose time stamps do not advance.
        num_unplaced: the latter of these.
        gaps: stretches where pictures are lost or smeared by damage; no clip may touch them.
        announced_s: length that the file announced.
        reached_s: end of the last packet of any stream, sound included.
    """

    shots: list[Interval]
    frame_times_s: list[float]
    sharpness: list[float]
    exposure: list[float]
    motion: list[float]
    num_frames: int
    num_lost: int = 0
    num_unplaced: int = 0
    gaps: list[Interval] = field(default_factory=list)
    announced_s: float = 0.0
    reached_s: float = 0.0
    transitions: list[Interval] = field(default_factory=list)
    picture_box: Box | None = None
    shakes: list[Shake] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word(Interval):
    """Recognised word as it is written, and the recogniser's confidence."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence(Interval):
    """Words up to a full stop or a pause; the interval is where its words are.

    Attributes:
        confidence: the recogniser's, averaged over the words.
        words: with their own times; empty where only the sentence's are known (subtitles).
        english: the same in English, where another language is spoken and was translated.
    """

    text: str
    confidence: float
    words: list[Word] = field(default_factory=list)
    english: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """Recognised speech.

    Attributes:
        language: ISO 639-1 code, empty when nothing was said, or by subtitles that do not tell.
        model: the recogniser that made it, or the subtitles that stood in for one.
        removed_words: number of words removed as not spoken: the recogniser's loops.
    """

    language: str
    sentences: list[Sentence]
    model: str
    removed_words: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Interval):
    """A stretch of one or several whole shots, or a part of a long one.

    Attributes:
        clip_index: position in the video among all candidate clips, from 0.
        num_shots: shots it touches; above 1 where short shots were joined.
        sharpness: median over its packed frames; see :class:`Evidence`.
        exposure: median over its packed frames.
        motion: mean over its packed frames.
    """

    clip_id: str
    clip_index: int
    num_shots: int
    sharpness: float
    exposure: float
    motion: float


class OverlayKind(StrEnum):
    """Kinds of overlays that are not part of the scene."""

    LOGO = "logo"
    STOCK_CENTRE = "stock_centre"
    STOCK_TILED = "stock_tiled"
    CORNER_BUG = "corner_bug"
    HANDLE = "handle"
    SUBTITLES = "subtitles"
    TITLE_CARD = "title_card"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An overlay that is seen in a clip.

    Attributes:
        box: where it is; of a moving one, all places together.
        score: confidence that it was laid over the video.
        text: lines that could be read in it.
    """

    kind: OverlayKind
    box: Box
    score: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Overlays of one clip.

    Attributes:
        findings: strongest first, those of low score included.
        screen_text: every line that was read in the clip.
        crop: part of the picture to use, where overlays are cropped away; None for all of it.
    """

    clip_id: str
    findings: list[Finding]
    screen_text: list[str]
    crop: Box | None = None

    @property
    def score(self) -> float:
        """Confidence that the clip carries any overlay."""
        return self.findings[0].score if self.findings else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Features of a clip that outlast coding, scaling and letterboxing; see :mod:`stages.duplicates`.

    Attributes:
        hashes: 64-bit perceptual hashes of its pictures, in hexadecimal, one after the other.
        thumbs: thumbnails of the same pictures, in hexadecimal.
    """

    clip_id: str
    hashes: str
    thumbs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Action(Interval):
    """One thing done, in a short present-tense sentence.

    Attributes:
        text: the action.
        asr_text: the words it was made from.
        confidence: the recogniser's, averaged over those words.
        source: ``llm`` when a language model wrote it, ``asr`` when it is the cleaned sentence.
    """

    action_id: str
    text: str
    asr_text: str
    confidence: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Reason to drop an action, on conditions that are judged later.

    Attributes:
        repeats: id of the action that says the same; the objection holds only where that one is kept. None
            where the text itself is the reason.
    """

    action_id: str
    reason: Reason
    detail: str
    repeats: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A clip and an action that belong together.

    Attributes:
        start_diff_s: absolute distance between the two starts.
        rule: the part of the rule that held: ``start`` or ``iou``.
    """

    clip_id: str
    action_id: str
    iou: float
    start_diff_s: float
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A description of one clip, or why there is none.

    Attributes:
        text: empty where no answer could be used.
        model: what wrote it; an embedded model names itself.
        frame_times_s: the frames it was shown.
        prompt: name and digest of the prompt, as ``name@digest``.
        input_tokens: of all requests that led to it, stored answers included; 0 where not reported.
        output_tokens: likewise.
        problem: why there is no text; empty where there is one. ``refused`` where the model or its
            provider would not.
    """

    clip_id: str
    text: str
    model: str
    frame_times_s: list[float]
    prompt: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmatched:
    """Reason why an action or a clip has no partner, in terms of the nearest one.

    Attributes:
        item_id: the clip or the action.
        cause: the first condition of the rule that the nearest partner fails.
        detail: figures of that partner.
    """

    item_id: str
    cause: NoMatch
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Relevance:
    """Relation of a video or a clip to the requested topic.

    Attributes:
        clip_id: None for the whole video.
        score: in [0, 1].
        role: what it is: ``content``, or a reason to drop it (see :class:`Reason`).
        detail: what the judgement rests on.
    """

    clip_id: str | None
    score: float
    role: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Interval):
    """One clip of a narrative with its best action; ``action_id`` is None where none is demanded.

    Attributes:
        gap_s: time since the end of the step before; of the first, since the video's start.
        repeats: index of the earlier step that says the same, or None.
    """

    step_index: int
    clip_id: str
    action_id: str | None
    action: str
    caption: str
    gap_s: float = 0.0
    repeats: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Narrative:
    """A kept video as ordered steps towards its title.

    Attributes:
        integrity: share of the video's actions that its steps tell, in [0, 1].
        title_source: ``container``, ``file_name``, ``speech``, ``steps`` or ``llm``; empty without a title.
    """

    title: str
    steps: list[Step]
    integrity: float = 1.0
    title_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """One dropped item, with its stage and reason.

    Attributes:
        item_id: the clip's or action's id; None for a whole file.
        start_s: where in the video, where that is known.
        detail: what a person needs to judge the reason: a figure against its threshold, a box.
    """

    kind: Kind
    stage: str
    reason: Reason
    detail: str
    item_id: str | None = None
    start_s: float | None = None
    end_s: float | None = None


def video_id_of(content_id: str) -> str:
    """Return the id of a video by the sha256 of its content."""
    return content_id[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One input file on its way through the chain.

    Attributes:
        uri: where the file is, as a URI.
        video_id: first 16 hex digits of ``content_id``.
        content_id: sha256 of the file's bytes; empty for an object of a bucket until a worker reads it.
        identity: state of the file when it was listed; a file in another state is not the one
            that ``content_id`` names. Empty where that is not checked.
        facts, evidence, ...: what each stage measured; None until it has run.
        drops: everything dropped so far, in the order of the stages.
        passed: stages whose results were in the memo before the run; workers skip them.
    """

    uri: str
    video_id: str
    content_id: str
    identity: str = ""
    facts: Facts | None = None
    evidence: Evidence | None = None
    transcript: Transcript | None = None
    clips: list[Clip] = field(default_factory=list)
    watermarks: list[Watermark] = field(default_factory=list)
    fingerprints: list[Fingerprint] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    objections: list[Objection] = field(default_factory=list)
    matches: list[Match] = field(default_factory=list)
    unmatched: list[Unmatched] = field(default_factory=list)
    captions: list[Caption] = field(default_factory=list)
    relevance: list[Relevance] = field(default_factory=list)
    narrative: Narrative | None = None
    drops: list[Drop] = field(default_factory=list)
    passed: tuple[str, ...] = ()

    @property
    def rejected(self) -> Drop | None:
        """Return the drop that ended the whole file, if any."""
        return next((drop for drop in self.drops if drop.kind is Kind.FILE), None)

    @property
    def kept_clips(self) -> list[Clip]:
        """Return clips that no stage has dropped, in order of time."""
        dropped = {drop.item_id for drop in self.drops if drop.kind is Kind.CLIP}
        return [clip for clip in self.clips if clip.clip_id not in dropped]

    @property
    def kept_actions(self) -> list[Action]:
        """Return actions that no stage has dropped, in order of time."""
        dropped = {drop.item_id for drop in self.drops if drop.kind is Kind.ACTION}
        return [action for action in self.actions if action.action_id not in dropped]

    @property
    def clips_before_match(self) -> list[Clip]:
        """Clips that no stage before matching has dropped, in order of time."""
        dropped = {
            drop.item_id
            for drop in self.drops
            if drop.kind is Kind.CLIP and drop.reason is not Reason.NO_MATCH
        }
        return [clip for clip in self.clips if clip.clip_id not in dropped]

    def with_results(self, **results: Any) -> Self:
        """Return this video with what a stage measured, by field."""
        return replace(self, **results)

    def drop(self, *drops: Drop) -> Self:
        """Return this video with more drops."""
        return replace(self, drops=[*self.drops, *drops]) if drops else self

    def reject(self, stage: str, reason: Reason, detail: str) -> Self:
        """Return this video, rejected as a whole."""
        return self.drop(Drop(kind=Kind.FILE, stage=stage, reason=reason, detail=detail))
