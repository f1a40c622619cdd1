"""Sound becomes sentences that lie where they were spoken."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from examples.media import Scene, Truth, write_video
from models.language import Endpoint
from models.speech import SpokenWord
from pipeline.chain import build_stages
from pipeline.config import Config
from stages.base import Workspace
from stages.probe import Probe
from stages.records import Interval, Reason, Sentence, Transcript, Video
from stages.transcribe import Transcribe, sentences
from tests.models.test_language import Store


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
    assert sentences(words(*spoken)) == [
        Sentence(start_s=start_s, end_s=end_s, text=text, confidence=confidence)
        for start_s, end_s, text, confidence in expected
    ]


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
