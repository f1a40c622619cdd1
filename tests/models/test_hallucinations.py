"""Removal of words that were not spoken; spoken repetitions stay."""

from __future__ import annotations

import pytest

from models.hallucinations import without_unsaid
from models.spoken import Passage, Span, SpokenWord

EVERYWHERE = [(0.0, 600.0)]


def passage(
    text: str, *, at_s: float = 0.0, word_s: float = 0.3, probability: float = 0.9, no_speech: float = 0.0
) -> Passage:
    """Words one after the other; the passage is as sure as its words."""
    words = [
        SpokenWord(
            start_s=at_s + number * word_s,
            end_s=at_s + (number + 1) * word_s,
            text=f" {word}",
            probability=probability,
        )
        for number, word in enumerate(text.split())
    ]
    return Passage(words=words, confidence=probability, no_speech=no_speech)


def left(*passages: Passage, voice: list[Span] = EVERYWHERE) -> str:
    words, removed = without_unsaid(passages, voice)
    assert len(words) + removed == sum(len(each.words) for each in passages)
    return "".join(word.text for word in words).strip()


@pytest.mark.parametrize(
    "text",
    [
        "Stir, stir, stir.",
        "Stir stir stir stir stir stir until it is smooth.",
        "Fold it over, fold it over, fold it over and press.",
        "Add salt. Add pepper. Add salt.",
        "Thank you for the eggs.",
        "Thanks for watching!",
        "Subscribe to my channel.",
        "Now watch this.",
    ],
)
def test_what_was_said_stays(text: str) -> None:
    assert left(passage(text)) == text


def test_a_loop_is_cut_to_its_first_round() -> None:
    assert left(passage("Mix the dough. " + "And then you add it, " * 9 + "Serve.")) == (
        "Mix the dough. And then you add it, Serve."
    )
    assert left(passage("so " * 30)) == "so"
    # As often as somebody may say it, but faster than anybody can.
    assert left(passage("Stir. " + "and the oil, " * 4, word_s=0.05)) == "Stir. and the oil,"


def test_a_loop_may_run_over_passages() -> None:
    passages = [passage("Let it rest.", at_s=10.0 * number) for number in range(6)]
    assert left(passage("Knead it well.", at_s=0), *passages) == "Knead it well. Let it rest."
    apart = [passage(f"Let it rest. Turn {number}.", at_s=10.0 * number) for number in range(6)]
    assert left(*apart).count("rest") == 6


def test_a_passage_that_compresses_like_a_loop_is_nobodys() -> None:
    nearly = " ".join(f"la la na {'ba' if number * number % 7 < 3 else 'bo'}" for number in range(30))
    recipe = (
        "Peel the potatoes and cut them into cubes. Boil them in salted water for twenty minutes, then "
        "drain them, add butter and warm milk and mash until there are no lumps left."
    )
    assert left(passage(f"{nearly} {nearly}"), passage(recipe, at_s=100)) == recipe


def test_silence_by_the_decoders_own_judgement_says_nothing() -> None:
    assert left(passage("oh no", probability=0.18, no_speech=0.8)) == ""
    # One sign alone is not enough: noise makes both of them doubtful.
    assert left(passage("Chop it.", probability=0.3, no_speech=0.1)) == "Chop it."
    assert left(passage("Chop it.", probability=0.8, no_speech=0.9)) == "Chop it."


def test_words_where_there_is_no_voice_were_not_said() -> None:
    voice = [(0.0, 1.0), (30.0, 31.0)]
    first, second = passage("Chop it.", at_s=0.2), passage("Season well.", at_s=10.0)
    assert left(first, second, voice=voice) == "Chop it."


@pytest.mark.parametrize(
    "text",
    [
        "Thanks for watching!",
        "Thank you.",
        "you",
        "Please subscribe to my channel!",
        "Subtitles by the Amara.org community",
        "Untertitel der Amara.org-Community",
        "Sous-titres réalisés para la communauté d'Amara.org",
        "ご視聴ありがとうございました",
    ],
)
def test_a_subtitles_set_phrase_needs_a_voice(text: str) -> None:
    before = passage("Serve it hot.", at_s=0)
    hardly = [(0.0, 1.0), (5.0, 5.1)]
    assert left(before, passage(text, at_s=4.9, word_s=0.4), voice=hardly) == "Serve it hot."
    assert left(before, passage(text, at_s=5.0, probability=0.3)) == "Serve it hot."
    assert left(before, passage(text, at_s=5.0)).endswith(text)


@pytest.mark.parametrize("mark", ["[Music]", "(upbeat music)", "♪ ♪", "*sizzling*", "♪ la la la ♪"])
def test_marks_are_never_said(mark: str) -> None:
    assert left(passage(f"Fry it. {mark} Turn it.")) == "Fry it. Turn it."
