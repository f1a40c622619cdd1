"""Words are kept to where there is a voice, and a voice to when it is heard."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.speech import Heard, SpeechRecogniser, SpokenWord, snap_to_voice

VOICE = [(1.0, 3.0), (5.0, 8.0), (8.5, 9.0)]


@pytest.mark.parametrize(
    ("word", "snapped"),
    [
        ((1.5, 2.0), (1.5, 2.0)),
        # Stretched back over the pause: cut to the voice, with a quarter of a second to spare.
        ((3.2, 5.4), (4.75, 5.4)),
        ((2.5, 4.9), (2.5, 3.25)),
        # Over two stretches of voice: the one in which most of it lies.
        ((2.8, 6.0), (4.75, 6.0)),
        ((0.9, 3.1), (0.9, 3.1)),
        # Where there is no voice at all, nothing is known better.
        ((3.2, 4.8), (3.2, 4.8)),
        ((3.0, 5.0), (3.0, 5.0)),
        ((20.0, 21.0), (20.0, 21.0)),
    ],
)
def test_a_word_is_cut_to_the_voice(word: tuple[float, float], snapped: tuple[float, float]) -> None:
    spoken = SpokenWord(start_s=word[0], end_s=word[1], text=" leek", probability=0.7)
    assert snap_to_voice(spoken, VOICE) == replace(spoken, start_s=snapped[0], end_s=snapped[1])


@pytest.fixture(scope="module")
def recogniser() -> SpeechRecogniser:
    return SpeechRecogniser("tiny.en", language=None, threads=1, batch_size=1)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        np.zeros(16_000 * 40, np.float32),
        np.random.default_rng(0).normal(0, 0.01, 16_000 * 5).astype(np.float32),
    ],
    ids=["nothing", "silence", "hiss"],
)
def test_where_nobody_speaks_no_word_is_made_up(samples: np.ndarray, recogniser: SpeechRecogniser) -> None:
    assert recogniser.hear(samples) == Heard(language="", words=[])
