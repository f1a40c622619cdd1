"""Turn a video's sound into sentences with times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from models.errors import MediaError
from models.media import read_audio
from models.speech import SpeechRecogniser, SpokenWord
from stages.base import Pool, Stage, Workspace
from stages.probe import path_of
from stages.records import Reason, Sentence, Transcript, Video

PAUSE_S = 1.0
"""A silence that ends a sentence also where the recogniser set no full stop."""
SLACK_S = 1.0
"""Sound is read until so long after the pictures' duration, which need not begin at 0."""
FULL_STOPS = (".", "?", "!", "。", "？", "！")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    """How speech is recognised; see :class:`models.speech.SpeechRecogniser`."""

    model: str
    language: str | None
    threads: int
    batch_size: int


class Transcribe(Stage):
    """Recognises speech; a video in which nobody speaks is rejected if speech is required."""

    name: ClassVar[str] = "transcribe"
    pool: ClassVar[Pool] = "speech"
    reads = ("content_id", "facts")
    writes = ("transcript",)

    def __init__(self, settings: SpeechSettings, *, require_speech: bool) -> None:
        self.settings = settings
        self.require_speech = require_speech
        self._recogniser: SpeechRecogniser | None = None

    def measures_with(self) -> object:
        return asdict(self.settings)

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self._recogniser = SpeechRecogniser(**asdict(self.settings))

    def close(self) -> None:
        self._recogniser = None

    def measure(self, video: Video) -> Video:
        assert video.facts is not None and self._recogniser is not None
        nothing = Transcript(language="", sentences=[], model=self.settings.model)
        if not video.facts.has_audio:
            return replace(video, transcript=nothing)
        try:
            samples = read_audio(path_of(video.uri), until_s=video.facts.duration_s + SLACK_S)
        except MediaError:
            # Sound that cannot be decoded is sound that says nothing; the pictures may be fine.
            return replace(video, transcript=nothing)
        heard = self._recogniser.hear(samples)
        transcript = replace(nothing, language=heard.language, sentences=sentences(heard.words))
        return replace(video, transcript=transcript)

    def judge(self, video: Video) -> Video:
        assert video.transcript is not None
        if self.require_speech and not video.transcript.sentences:
            detail = "no words were recognised, and transcribe.require_speech is true"
            return video.reject(self.name, Reason.NO_SPEECH, detail)
        return video


def sentences(words: Iterable[SpokenWord]) -> list[Sentence]:
    """Join words up to a full stop or a pause."""
    found: list[Sentence] = []
    current: list[SpokenWord] = []

    def finish() -> None:
        text = "".join(word.text for word in current).strip()
        if any(letter.isalnum() for letter in text):
            confidence = sum(word.probability for word in current) / len(current)
            found.append(
                Sentence(
                    start_s=current[0].start_s,
                    end_s=max(word.end_s for word in current),
                    text=text,
                    confidence=round(confidence, 4),
                )
            )
        current.clear()

    for word in words:
        if current and word.start_s - current[-1].end_s > PAUSE_S:
            finish()
        current.append(word)
        if word.text.rstrip().endswith(FULL_STOPS):
            finish()
    if current:
        finish()
    return found
