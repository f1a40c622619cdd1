"""Sound becomes sentences that lie where they were spoken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from examples.media import Scene, Truth, write_video
from models.language import Endpoint
from models.spoken import Heard, Span, SpokenWord
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from stages.base import Workspace
from stages.probe import Probe
from stages.reasons import Reason
from stages.records import Interval, Sentence, Transcript, Video, Word
from stages.transcribe import Transcribe, TranscribeSettings, sentences
from tests.support.chat import Store


def words(*spoken: tuple[str, float, float]) -> list[SpokenWord]:
    return [
        SpokenWord(start_s=start_s, end_s=end_s, text=text, probability=0.5 + 0.1 * index)
        for index, (text, start_s, end_s) in enumerate(spoken)
    ]


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ([], []),
        (
            [(" Chop", 0.5, 1.0), (" it.", 1.0, 1.4), (" Then", 1.5, 1.8), (" stir!", 1.8, 2.2)],
            [(0.5, 1.4, "Chop it.", 0.55), (1.5, 2.2, "Then stir!", 0.75)],
        ),
        # A pause of more than a second ends a sentence, one of exactly a second does not.
        (
            [(" chop", 0.0, 1.0), (" it", 2.0, 2.5), (" stir", 3.625, 4.0)],
            [(0.0, 2.5, "chop it", 0.55), (3.625, 4.0, "stir", 0.7)],
        ),
        # What is left at the end is a sentence, too; signs without a word are none.
        ([(" 切。", 0.0, 1.0), (" ...", 1.0, 1.2), (" fry", 1.3, 1.6)],
         [(0.0, 1.0, "切。", 0.5), (1.3, 1.6, "fry", 0.7)]),
        # A later word can end earlier.
        ([(" chop", 0.0, 1.5), (" it.", 1.0, 1.25)], [(0.0, 1.5, "chop it.", 0.55)]),
        ([(" 1", 0.0, 0.2), (".5", 0.2, 0.4), (" cups.", 0.4, 0.8)], [(0.0, 0.8, "1.5 cups.", 0.6)]),
    ],
)  # fmt: skip
def test_words_are_joined_up_to_a_full_stop_or_a_pause(
    spoken: list[tuple[str, float, float]], expected: list[tuple[float, float, str, float]]
) -> None:
    found = sentences(words(*spoken))
    assert [replace(sentence, words=[]) for sentence in found] == [
        Sentence(start_s=start_s, end_s=end_s, text=text, confidence=confidence)
        for start_s, end_s, text, confidence in expected
    ]


def test_a_sentence_keeps_its_words_with_how_sure_they_are() -> None:
    (sentence,) = sentences(words((" Chop", 0.5, 1.0), (" it.", 1.0, 1.4)))
    assert sentence.words == [
        Word(start_s=0.5, end_s=1.0, text="Chop", confidence=0.5),
        Word(start_s=1.0, end_s=1.4, text="it.", confidence=0.6),
    ]


def test_a_sentences_words_are_those_of_its_text() -> None:
    (sentence,) = sentences(words((" 1", 0.0, 0.2), (".5", 0.2, 0.4), (" cups.", 0.4, 0.8)))
    assert sentence.words == [
        Word(start_s=0.0, end_s=0.4, text="1.5", confidence=0.5),
        Word(start_s=0.4, end_s=0.8, text="cups.", confidence=0.7),
    ]
    (sentence,) = sentences(words(("切", 0.0, 0.4), ("肉。", 0.4, 0.8)))
    assert [word.text for word in sentence.words] == ["切", "肉。"]


def stages_of(require_speech: bool) -> tuple[Probe, Transcribe]:
    config = Config.model_validate({"transcribe": {"require_speech": require_speech}})
    probe, _, transcribe, *_ = build_stages(config)
    assert isinstance(probe, Probe) and isinstance(transcribe, Transcribe)
    return probe, transcribe


@pytest.fixture(scope="module")
def transcribe(tmp_path_factory: pytest.TempPathFactory) -> Transcribe:
    """The default recogniser, loaded."""
    _, stage = stages_of(True)
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
    scratch = tmp_path_factory.mktemp("scratch")
    stage.open(Workspace(scratch=scratch, answers=Store(), language=nowhere, vision=None))
    return stage


def probed(path: Path) -> Video:
    probe, _ = stages_of(False)
    return probe(Video(uri=path.as_uri(), video_id="v", content_id="v"))


def test_sentences_are_heard_where_they_are_spoken(
    transcribe: Transcribe, narrated: tuple[Path, Truth]
) -> None:
    path, truth = narrated
    video = transcribe(probed(path))
    assert video.rejected is None and video.transcript is not None
    assert (video.transcript.language, video.transcript.model) == ("en", "base")
    assert len(video.transcript.sentences) == len(truth.spoken)
    for sentence, spoken in zip(video.transcript.sentences, truth.spoken, strict=True):
        assert sentence.iou(Interval(start_s=spoken.start_s, end_s=spoken.end_s)) > 0.8
        heard, said = (set(re.findall(r"\w+", text.lower())) for text in (sentence.text, spoken.sentence))
        assert len(heard & said) >= 0.7 * len(said), sentence.text
        assert 0.3 < sentence.confidence <= 1


@pytest.mark.parametrize("told", [None, "aac"], ids=["no-track", "undecodable-track"])
def test_a_film_without_sound_is_rejected_where_speech_is_demanded(
    told: str | None, transcribe: Transcribe, wordless: tuple[Path, Truth]
) -> None:
    """Also if the container promises sound and there is none to decode: that is no failure of ours."""
    video = probed(wordless[0])
    assert video.facts is not None
    video = transcribe(replace(video, facts=replace(video.facts, audio_codec=told)))
    assert video.transcript == Transcript(language="", sentences=[], model="base")
    assert video.rejected is not None
    assert (video.rejected.stage, video.rejected.reason) == ("transcribe", Reason.NO_SPEECH)
    assert video.rejected.detail == "no words were recognised, and transcribe.require_speech is true"
    _, lenient = stages_of(False)
    assert lenient.judge(replace(video, drops=[])).rejected is None


def test_a_silent_track_says_nothing(transcribe: Transcribe, tmp_path: Path) -> None:
    path = tmp_path / "quiet.mp4"
    write_video(path, [Scene(duration_s=6)], width_px=96, height_px=64)
    video = transcribe(probed(path))
    assert video.facts is not None and video.facts.has_audio
    assert video.rejected is not None and video.rejected.reason is Reason.NO_SPEECH


class Listener:
    """Hears German, always the same, and knows some English."""

    def __init__(self) -> None:
        self.translated: list[tuple[Sequence[Span], str]] = []

    def hear(self, samples: np.ndarray, language: str = "") -> Heard:
        if not samples.size:
            return Heard(language="", words=[])
        spoken = words((" Rühren.", 1.0, 1.5), (" Salzen.", 3.0, 3.5))
        return Heard(language="de", words=spoken, removed_words=7)

    def translate(self, samples: np.ndarray, spans: Sequence[Span], language: str) -> list[str] | None:
        self.translated.append((spans, language))
        return [f"Do {number}." for number, _ in enumerate(spans)] if language == "de" else None

    def close(self) -> None:
        pass


def listening(
    *, translate: bool = True, subtitles: Literal["never", "prefer"] = "never", language: str | None = None
) -> tuple[Transcribe, Listener]:
    settings = TranscribeSettings(
        model="base", language=language, threads=1, batch_size=1, translate=translate, subtitles=subtitles
    )
    stage, listener = Transcribe(settings), Listener()
    stage._recogniser = listener
    return stage, listener


SOUND = np.ones(64_000, np.float32)


def test_what_is_not_english_stays_and_gets_english_beside_it() -> None:
    stage, listener = listening()
    transcript = stage.listen(SOUND)
    assert (transcript.language, transcript.removed_words) == ("de", 7)
    assert [(s.text, s.english) for s in transcript.sentences] == [
        ("Rühren.", "Do 0."), ("Salzen.", "Do 1."),
    ]  # fmt: skip
    assert listener.translated == [([(1.0, 1.5), (3.0, 3.5)], "de")]
    stage, listener = listening(translate=False)
    assert [sentence.english for sentence in stage.listen(SOUND).sentences] == ["", ""]
    assert listener.translated == []


def subtitled(folder: Path, narrated: tuple[Path, Truth], content: str, name: str = "soup.srt") -> Video:
    """A narrated video with a file beside it."""
    video = folder / "soup.mp4"
    if not video.exists():
        video.symlink_to(narrated[0])
    (folder / name).write_text(content)
    return probed(video)


SRT = """1
00:00:00,500 --> 00:00:02,500
Chop the leek. Then

2
00:00:02,500 --> 00:00:04,500
fry it.
"""


def test_subtitles_beside_the_video_stand_in_for_its_sound(
    tmp_path: Path, narrated: tuple[Path, Truth]
) -> None:
    video = subtitled(tmp_path, narrated, SRT)
    stage, listener = listening(subtitles="prefer")
    transcript = stage(video).transcript
    assert transcript is not None
    assert (transcript.model, transcript.language) == ("subtitles:srt", "")
    # "Chop the leek." has 12 of the 16 letters of its line.
    assert transcript.sentences == [
        Sentence(start_s=0.5, end_s=2.0, text="Chop the leek.", confidence=1.0),
        Sentence(start_s=2.0, end_s=4.5, text="Then fry it.", confidence=1.0),
    ]
    assert listener.translated == []
    # By default nobody reads them.
    plain, _ = listening()
    assert [s.text for s in transcript_of(plain, video)] == ["Rühren.", "Salzen."]


def test_a_video_without_sound_can_have_subtitles(tmp_path: Path, narrated: tuple[Path, Truth]) -> None:
    video = subtitled(tmp_path, narrated, SRT)
    assert video.facts is not None
    silent = replace(video, facts=replace(video.facts, audio_codec=None))
    for subtitles, expected in (("never", Reason.NO_AUDIO), ("prefer", None)):
        config = Config.model_validate({"transcribe": {"subtitles": subtitles}})
        probe = next(stage for stage in build_stages(config) if isinstance(stage, Probe))
        rejected = probe.judge(silent).rejected
        assert (rejected.reason if rejected else None) == expected
    stage, _ = listening(subtitles="prefer")
    assert [s.text for s in transcript_of(stage, silent)] == ["Chop the leek.", "Then fry it."]


def test_subtitles_of_another_language_are_translated_from_the_sound(
    tmp_path: Path, narrated: tuple[Path, Truth]
) -> None:
    video = subtitled(tmp_path, narrated, SRT, "soup.de.srt")
    stage, _ = listening(subtitles="prefer", language="de")
    assert [s.english for s in transcript_of(stage, video)] == ["Do 0.", "Do 1."]


def test_lines_without_full_stops_are_sentences_each(tmp_path: Path, narrated: tuple[Path, Truth]) -> None:
    lines = [f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\nand then we add it number {n}\n\n" for n in range(5)]
    stage, _ = listening(subtitles="prefer")
    found = transcript_of(stage, subtitled(tmp_path, narrated, "".join(lines)))
    assert [s.text for s in found] == [f"and then we add it number {n}" for n in range(5)]


def test_subtitles_that_cannot_be_read_fall_back_to_the_sound(
    tmp_path: Path, narrated: tuple[Path, Truth]
) -> None:
    stage, _ = listening(subtitles="prefer")
    found = transcript_of(stage, subtitled(tmp_path, narrated, "<html>404</html>"))
    assert [s.text for s in found] == ["Rühren.", "Salzen."]


def test_a_result_is_remembered_with_what_stands_beside_the_video(
    tmp_path: Path, narrated: tuple[Path, Truth]
) -> None:
    never, prefer = listening()[0], listening(subtitles="prefer")[0]
    video = subtitled(tmp_path, narrated, SRT)
    first = prefer.also_reads(video)
    assert first and never.also_reads(video) is None
    subtitled(tmp_path, narrated, SRT.replace("leek", "onion"))
    assert prefer.also_reads(video) != first
    (tmp_path / "soup.srt").unlink()
    assert not prefer.also_reads(video)


def test_where_the_interpreter_lies_is_no_part_of_a_result() -> None:
    stage, _ = listening()
    moved = Transcribe(stage.settings.model_copy(update={"python": "/elsewhere/python"}))
    assert moved.measures_with() == stage.measures_with()
    other = Transcribe(stage.settings.model_copy(update={"engine": "whisperx"}))
    assert other.measures_with() != stage.measures_with()


def transcript_of(stage: Transcribe, video: Video) -> list[Sentence]:
    """The sentences that a stage finds."""
    transcript = stage(video).transcript
    assert transcript is not None
    return transcript.sentences
