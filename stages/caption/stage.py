"""Describe clips in words.

With an endpoint for vision, a model sees frames of the clip; its answers are checked against the
paper's rules on length and style (:mod:`stages.english.caption_rules`). Without one, an embedded captioner
puts together what small models can tell (:mod:`stages.caption.embedded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from models.settings import Count, Section
from stages import prompts
from stages.base import Pool, Stage, Workspace
from stages.caption.answers import REFUSED, ask_for_texts, caption_question
from stages.caption.embedded import NotesCaptioner
from stages.caption.keyframes import Choice, Crop, choose, pictured
from stages.caption.merge import PROMPT as MERGE_PROMPT
from stages.caption.merge import Surroundings, merge_captions
from stages.clip import drop_clip, frames_in
from stages.english.caption_rules import CaptionLimits, copied
from stages.frames import read_frames
from stages.match import best_matches
from stages.reasons import Reason
from stages.records import Caption, Clip, Drop, Transcript, Video

PROMPT = "caption"
SAID_WORDS = 200
"""Of the speech during a clip; 30 seconds, the longest clip, hold fewer."""

Context = Literal["speech", "neighbours"]


class CaptionSettings(Section):
    """Settings of captions; all of it measures.

    All but ``max_words`` to ``threads`` is for a model that sees.

    Attributes:
        frames: pictures of a clip that a vision model sees.
        choose: which; see :mod:`stages.caption.keyframes`.
        side_px: longest short side of a picture; the scan packs none larger than its own.
        crop: the centre as a square, or the whole picture.
        context: further facts for the model: the speech, or the actions before and after.
        merge: whether captions are rewritten beside their neighbours'.
        max_words: a longer caption is sent back, then cut at the end of a sentence.
        max_sentences: likewise.
        only_matched: whether clips that matching drops are left out; the kept rows are the same.
        threads: of the embedded image tagger.
    """

    frames: Annotated[int, Field(ge=1, le=64)] = 10
    choose: Choice = "coverage"
    side_px: Annotated[int, Field(ge=64, le=2160)] = 448
    crop: Crop = "square"
    context: tuple[Context, ...] = ()
    merge: bool = False
    max_words: Annotated[int, Field(ge=5, le=1000)] = 80
    max_sentences: Count = 5
    only_matched: bool = True
    threads: Count = 1

    @property
    def limits(self) -> CaptionLimits:
        return CaptionLimits(max_words=self.max_words, max_sentences=self.max_sentences)


class WriteCaptions(Stage):
    """Captions of clips; a clip without a usable caption is dropped."""

    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 5
    pool: ClassVar[Pool] = "language"
    reads: tuple[str, ...] = (
        "content_id", "evidence", "transcript", "kept_clips", "kept_actions", "matches", "watermarks",
    )  # fmt: skip
    writes = ("captions",)
    needs_frames = True
    rules = ("english", "caption")
    measuring = CaptionSettings
    settings: CaptionSettings

    def __init__(self, settings: CaptionSettings, *, model: str | None) -> None:
        self.settings = settings
        self.model = model
        if not settings.only_matched:
            self.reads = (*type(self).reads, "clips_before_match")
        self._notes: NotesCaptioner | None = None

    def measures_with(self) -> object:
        settings = self.settings
        if self.model is None:
            return [settings.max_words, settings.max_sentences, settings.only_matched, settings.threads]
        digests = [prompts.digest(PROMPT), prompts.digest(MERGE_PROMPT) if settings.merge else None]
        return [super().measures_with(), self.model, digests]

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        if self.model is None:
            self._notes = NotesCaptioner(threads=self.settings.threads)
        else:
            self._client = workspace.client(self.name, sees=True)

    def close(self) -> None:
        self._notes = None

    def measure(self, video: Video) -> Video:
        assert video.evidence is not None
        times = video.evidence.frame_times_s
        clips = [clip for clip in self._wanted(video) if times[frames_in(video.evidence, clip)]]
        if self._notes is not None:
            frames = self.workspace.frames_path(video)
            captions = self._notes.write(video, clips, frames, self.settings.limits)
        else:
            captions = self._see(video, clips)
        return video.with_results(captions=captions)

    def judge(self, video: Video) -> Video:
        captions = {caption.clip_id: caption for caption in video.captions}
        drops = [_drop(clip, captions.get(clip.clip_id)) for clip in video.kept_clips]
        video = video.drop(*(drop for drop in drops if drop is not None))
        if not video.kept_clips:
            video = video.reject(self.name, Reason.NO_CAPTION, "no clip has a caption")
        return video

    def _wanted(self, video: Video) -> list[Clip]:
        """Return the clips to describe."""
        return video.kept_clips if self.settings.only_matched else video.clips_before_match

    def _see(self, video: Video, clips: list[Clip]) -> list[Caption]:
        """Caption by a vision model; an entry without text says why."""
        assert video.evidence is not None and self.model is not None
        settings = self.settings
        frames = self.workspace.frames_path(video)
        shown = [choose(video.evidence, clip, settings.frames, settings.choose) for clip in clips]
        facts = [facts_of(video, clip, settings.context) for clip in clips]
        questions = [
            caption_question(
                PROMPT,
                told,
                settings.limits,
                [pictured(jpeg, settings.side_px, settings.crop) for jpeg in read_frames(frames, times)],
            )
            for told, times in zip(facts, shown, strict=True)
        ]
        checks = [partial(copied, said=str(told.get("said", ""))) for told in facts]
        written = ask_for_texts(self._client, questions, checks, settings.limits)
        captions = [
            Caption(
                clip_id=clip.clip_id,
                text=new.text,
                model=new.model or self.model,
                frame_times_s=times,
                prompt=prompts.label(PROMPT),
                input_tokens=new.input_tokens,
                output_tokens=new.output_tokens,
                problem=new.problem,
            )
            for clip, times, new in zip(clips, shown, written, strict=True)
        ]
        if settings.merge:
            around = surroundings(video, clips, captions)
            captions = merge_captions(self._client, captions, around, settings.limits)
        return captions


def facts_of(video: Video, clip: Clip, context: Sequence[Context]) -> dict[str, str | float]:
    """Return the facts about a clip that a vision model gets; unknown ones are left out."""
    facts: dict[str, str | float] = {"seconds": round(clip.duration_s, 1)}
    if "speech" in context and (said := said_during(video.transcript, clip)):
        facts["said"] = said
    if "neighbours" in context:
        texts = {action.action_id: action.text for action in video.kept_actions}
        best = best_matches(video.matches)
        for name, other in zip(("done_before", "done_after"), neighbours(video, clip), strict=True):
            if other is not None and other.clip_id in best:
                facts[name] = texts[best[other.clip_id].action_id]
    return facts


def said_during(transcript: Transcript | None, clip: Clip) -> str:
    """Return the words spoken in a clip; a sentence without word times counts if most of it is inside."""
    words: list[str] = []
    for sentence in transcript.sentences if transcript else []:
        if sentence.words and not sentence.english:
            middles = [(word.start_s + word.end_s) / 2 for word in sentence.words]
            inside = zip(sentence.words, middles, strict=True)
            words += [word.text.strip() for word, at_s in inside if clip.start_s <= at_s < clip.end_s]
        elif 2 * sentence.overlap_s(clip) > min(sentence.duration_s, clip.duration_s):
            words += (sentence.english or sentence.text).split()
    return " ".join(words[:SAID_WORDS])


def neighbours(video: Video, clip: Clip) -> tuple[Clip | None, Clip | None]:
    """Return the kept clips before and after one, which may itself be dropped."""
    before = [other for other in video.kept_clips if other.clip_index < clip.clip_index]
    after = [other for other in video.kept_clips if other.clip_index > clip.clip_index]
    return (before[-1] if before else None), (after[0] if after else None)


def surroundings(
    video: Video, clips: Sequence[Clip], captions: Sequence[Caption]
) -> dict[str, Surroundings]:
    """Return the context of each clip for the second pass, by id; a clip without any is left out."""
    texts = {caption.clip_id: caption.text for caption in captions}
    by_id = {clip.clip_id: clip for clip in clips}
    found = {}
    for caption in captions:
        clip = by_id[caption.clip_id]
        before, after = (texts.get(other.clip_id, "") if other else "" for other in neighbours(video, clip))
        if before or after:
            said = said_during(video.transcript, clip)
            found[clip.clip_id] = Surroundings(before=before, after=after, said=said)
    return found


def _drop(clip: Clip, caption: Caption | None) -> Drop | None:
    stage = WriteCaptions.name
    if caption is None:
        return drop_clip(clip, stage, Reason.NO_CAPTION, "no packed frame lies in the clip")
    if caption.problem == REFUSED:
        return drop_clip(clip, stage, Reason.REFUSED, "the model or its provider refused")
    if not caption.text:
        return drop_clip(clip, stage, Reason.NO_CAPTION, f"no usable caption: {caption.problem}")
    return None
