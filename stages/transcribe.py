"""Turn a video's sound, or its subtitles, into sentences with times."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from models.media import audio_tracks, read_audio
from models.settings import Count, Section
from models.speech import FasterWhisper
from models.spoken import SpeechRecogniser, SpokenWord
from models.subtitles import Subtitles, read_embedded, read_side_car, side_cars
from models.weights import digest_of
from models.whisperx import WhisperX
from stages.base import Pool, Stage, Workspace
from stages.reasons import Reason
from stages.records import Sentence, Transcript, Video, Word
from stages.view import file_of, path_of

PAUSE_S = 1.0
"""A silence that ends a sentence also where the recogniser set no full stop."""
SLACK_S = 1.0
"""Sound is read until so long after the pictures' duration, which need not begin at 0."""
SUBTITLES_VERSION = 2
"""Version of what :mod:`models.subtitles` takes for speech."""
SILENCE: NDArray[np.float32] = np.zeros(0, np.float32)
FULL_STOPS = (".", "?", "!", "。", "？", "！")


class TranscribeMeasuring(Section):
    """Settings of speech recognition; see :class:`models.speech.FasterWhisper`.

    Attributes:
        engine: ``whisperx`` runs in an environment of its own; see :class:`models.whisperx.WhisperX`.
        model: base, tiny.en or the folder of a CTranslate2 Whisper model.
        language: ISO 639-1 code; None detects it.
        translate: sentences of another language get an English version beside the original.
        subtitles: ``prefer`` takes subtitles beside the video (NAME.srt, NAME.en.vtt) or in it for its
            speech, where there are any.
        align_model: WhisperX's folder of a wav2vec2 CTC model; None lets it choose and download.
    """

    engine: Literal["faster-whisper", "whisperx"] = "faster-whisper"
    model: str = "base"
    language: str | None = None
    translate: bool = True
    subtitles: Literal["never", "prefer"] = "never"
    threads: Count = 1
    batch_size: Count = 4
    align_model: str | None = None

    @property
    def name(self) -> str:
        """Name of the recogniser in transcripts."""
        return self.model if self.engine == "faster-whisper" else f"{self.engine}:{self.model}"


class TranscribeSettings(TranscribeMeasuring):
    """Speech recognition, and whether a video needs speech.

    Attributes:
        python: interpreter of an environment that has WhisperX, made by ``make env-whisperx``; where it
            lies does not change what it hears.
    """

    python: str | None = None
    require_speech: bool = True

    @model_validator(mode="after")
    def _whisperx_has_an_interpreter(self) -> Self:
        if self.engine == "whisperx" and self.python is None:
            raise ValueError(
                "engine whisperx needs python, the interpreter of an environment that has it: "
                "run `make env-whisperx` and set python to .venv-whisperx/bin/python"
            )
        return self


class Transcribe(Stage):
    """Recognises speech; a video in which nobody speaks is rejected if speech is required."""

    name: ClassVar[str] = "transcribe"
    version: ClassVar[int] = 5
    pool: ClassVar[Pool] = "speech"
    reads = ("content_id", "facts")
    writes = ("transcript",)
    reads_file = True

    measuring = TranscribeMeasuring
    settings: TranscribeSettings

    def __init__(self, settings: TranscribeSettings) -> None:
        self.settings = settings
        self._recogniser: SpeechRecogniser | None = None

    def measures_with(self) -> object:
        folders = [self.settings.model, self.settings.align_model]
        weights = [digest_of(Path(each)) for each in folders if each and Path(each).exists()]
        # What is heard without subtitles keeps its key.
        read = [SUBTITLES_VERSION] if self.settings.subtitles == "prefer" else []
        return [super().measures_with(), weights, *read]

    def also_reads(self, video: Video) -> object:
        # Objects of a bucket are opened one by one, so there is nothing beside them.
        if self.settings.subtitles == "never" or not video.uri.startswith("file:"):
            return None
        path = path_of(video.uri)
        # The names themselves need not be text.
        return [
            (found.name.removeprefix(path.stem), hashlib.sha256(content).hexdigest())
            for found, content in side_cars(path, self.settings.language)
        ]

    def open(self, workspace: Workspace) -> None:
        super().open(workspace)
        self._recogniser = _recogniser(self.settings)

    def close(self) -> None:
        if self._recogniser is not None:
            self._recogniser.close()
        self._recogniser = None

    def measure(self, video: Video) -> Video:
        assert video.facts is not None
        path, until_s = file_of(video), video.facts.end_s + SLACK_S
        if self.settings.subtitles == "prefer":
            written = self._read(path, until_s)
            if written is not None:
                return video.with_results(transcript=self._in_english(written, self._sound(video, until_s)))
        return video.with_results(transcript=self._spoken(video, until_s))

    def _spoken(self, video: Video, until_s: float) -> Transcript:
        """Recognise the first sound track with speech."""
        if not (video.facts and video.facts.has_audio):
            return self.listen(SILENCE)
        path = file_of(video)
        found = Transcript(language="", sentences=[], model=self.settings.name)
        for track in audio_tracks(path):
            samples = read_audio(path, until_s=until_s, track=track.index, from_s=video.facts.start_s)
            found = self._hear(samples, track.language)
            if found.sentences:
                return self._in_english(found, samples)
        return found

    def _sound(self, video: Video, until_s: float) -> NDArray[np.float32]:
        """Samples of the first sound track; none where there is none."""
        if not (video.facts and video.facts.has_audio):
            return SILENCE
        path, from_s = file_of(video), video.facts.start_s
        tracks = audio_tracks(path)
        return (
            read_audio(path, until_s=until_s, track=tracks[0].index, from_s=from_s) if tracks else SILENCE
        )

    def judge(self, video: Video) -> Video:
        assert video.transcript is not None
        if self.settings.require_speech and not video.transcript.sentences:
            detail = "no words were recognised, and transcribe.require_speech is true"
            return video.reject(self.name, Reason.NO_SPEECH, detail)
        return video

    def listen(self, samples: NDArray[np.float32]) -> Transcript:
        """Recognise the speech in mono samples ``[n]`` at 16 kHz; sample 0 is at time 0."""
        return self._in_english(self._hear(samples), samples)

    def _hear(self, samples: NDArray[np.float32], language: str = "") -> Transcript:
        assert self._recogniser is not None
        heard = self._recogniser.hear(samples, language)
        return Transcript(
            language=heard.language,
            sentences=sentences(heard.words),
            model=self.settings.name,
            removed_words=heard.removed_words,
        )

    def _in_english(self, transcript: Transcript, samples: NDArray[np.float32]) -> Transcript:
        """The transcript with an English version of each sentence, where it is needed and can be had."""
        assert self._recogniser is not None
        spoken = transcript.sentences
        if not (self.settings.translate and spoken and samples.size) or transcript.language in ("", "en"):
            return transcript
        spans = [(sentence.start_s, sentence.end_s) for sentence in spoken]
        english = self._recogniser.translate(samples, spans, transcript.language)
        if english is None:
            return transcript
        both = zip(spoken, english, strict=True)
        return replace(transcript, sentences=[replace(each, english=text) for each, text in both])

    def _read(self, path: Path, until_s: float) -> Transcript | None:
        """The subtitles beside the video, or else in it, as a transcript."""
        language = self.settings.language
        subtitles = read_side_car(path, language, until_s=until_s)
        subtitles = subtitles or read_embedded(path, language, until_s=until_s)
        if subtitles is None:
            return None
        return Transcript(
            language=subtitles.language,
            sentences=written_sentences(subtitles),
            model=f"subtitles:{subtitles.form}",
        )


def _recogniser(settings: TranscribeSettings) -> SpeechRecogniser:
    if settings.engine == "faster-whisper":
        return FasterWhisper(
            settings.model,
            language=settings.language,
            threads=settings.threads,
            batch_size=settings.batch_size,
        )
    return WhisperX(
        settings.model,
        language=settings.language,
        threads=settings.threads,
        batch_size=settings.batch_size,
        python=settings.python,
        align_model=settings.align_model,
    )


def written_sentences(subtitles: Subtitles) -> list[Sentence]:
    """Subtitles up to a full stop or a pause; a cue each where nobody set full stops.

    Confidence is 1: who wrote them down, and how sure they were, the file does not tell. Times within
    a cue are spread by letters, so words are left out.
    """
    cues = [cue.words() for cue in subtitles.cues]
    texts = [[word for cue in cues for word in cue]] if subtitles.is_punctuated else cues
    return [replace(sentence, words=[]) for text in texts for sentence in sentences(text)]


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
                    words=written_words(current),
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


def written_words(words: Sequence[SpokenWord]) -> list[Word]:
    """Words as they stand between spaces: what the recogniser hears as "1" and ".5" is one.

    A word is as sure as the least sure of its parts. Where nothing is spaced, parts stay as they are.
    """
    spaced = any(word.text[:1].isspace() for word in words)
    found: list[Word] = []
    for word in words:
        part = Word(
            start_s=word.start_s,
            end_s=word.end_s,
            text=word.text.strip(),
            confidence=round(word.probability, 4),
        )
        if spaced and found and not word.text[:1].isspace():
            last = found.pop()
            part = Word(
                start_s=last.start_s,
                end_s=max(last.end_s, part.end_s),
                text=last.text + part.text,
                confidence=min(last.confidence, part.confidence),
            )
        found.append(part)
    return found
