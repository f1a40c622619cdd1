"""A line with two actions becomes two, and an action is where its words were spoken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stages.english.clauses import two_orders
from stages.english.informative import why_not
from stages.records import Sentence, Word
from stages.refine.spoken_times import one_each, said_by


def spoken(text: str, *, start_s: float = 10.0) -> Sentence:
    """A sentence of words of half a second each; word ``i`` has the confidence ``1 - i / 100``."""
    words = [
        Word(start_s=start_s + i / 2, end_s=start_s + i / 2 + 0.5, text=word, confidence=1 - i / 100)
        for i, word in enumerate(text.split())
    ]
    end_s = words[-1].end_s
    return Sentence(start_s=start_s, end_s=end_s, text=text, confidence=0.5, words=words)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Chop the onion and fry it in oil.", ["Chop the onion", "fry it in oil."]),
        ("So now we chop the onion, and then fry it.", ["So now we chop the onion", "fry it."]),
        ("Loosen the bolt then remove the wheel", ["Loosen the bolt", "remove the wheel"]),
        ("Boil the pasta, drain it and add the sauce and stir until hot",
         ["Boil the pasta, drain it", "add the sauce", "stir until hot"]),
        ("I’m gonna cut the yarn and weave in the ends", ["I’m gonna cut the yarn", "weave in the ends"]),
        # One action, or not surely two.
        ("Peel and chop the onion.", None),
        ("Add the oil and butter to the pan.", None),
        ("Add salt and pepper.", None),
        ("Mix the flour and sugar", None),
        ("Add the onion and stir.", None),
        ("Don't open the lid and stir it.", None),
        ("When you open the lid and stir it", None),
        ("To peel the skin and remove the seeds", None),
        ("I love my mom and my dad", None),
        ("The butter and fry it", None),
        ("Stir the soup and it thickens.", None),
        ("and", None),
        ("", None),
    ],
)  # fmt: skip
def test_lines_are_cut_where_both_parts_have_a_verb_and_a_thing(text: str, parts: list[str] | None) -> None:
    line = Sentence(start_s=1.0, end_s=2.0, text=text, confidence=0.9)
    assert [part.text for part in one_each([line])] == (parts or [text])
    assert (two_orders(text) is None) == (parts is None)


def test_a_sentence_that_does_not_end_is_cut_all_the_same() -> None:
    text = " and ".join(["cut it", "fry it"] * 500)
    line = Sentence(start_s=1.0, end_s=2.0, text=text, confidence=0.9)
    assert [part.text for part in one_each([line])] == text.split(" and ")


@pytest.mark.parametrize("number", ["1/2/2020", "1.5.3", "1/0", "٣/٠"])
def test_signs_that_only_look_like_a_number_are_words(number: str) -> None:
    sentence = spoken(f"On {number} chop the onion.")
    where, _ = said_by("Chop the onion.", [sentence])
    assert (where.start_s, where.end_s) == (11.0, 12.5)
    assert why_not(sentence.text) is None


def test_each_part_has_the_time_and_the_confidence_of_its_own_words() -> None:
    first, second = one_each([spoken("Chop the onion and fry it in oil.")])
    assert (first.start_s, first.end_s, first.confidence) == (10.0, 11.5, 0.99)
    assert (second.start_s, second.end_s, second.confidence) == (12.0, 14.0, 0.945)


def test_without_word_times_the_parts_keep_the_sentence_s() -> None:
    line = replace(spoken("Chop the onion and fry it in oil."), words=[])
    assert [(part.start_s, part.end_s, part.confidence) for part in one_each([line])] == [(10, 14, 0.5)] * 2


def test_a_translation_is_cut_and_the_original_stays_whole() -> None:
    line = replace(spoken("Corta la cebolla y fríela."), english="Chop the onion and fry it.")
    assert [(part.text, part.english) for part in one_each([line])] == [
        ("Corta la cebolla y fríela.", "Chop the onion"),
        ("Corta la cebolla y fríela.", "fry it."),
    ]


@pytest.mark.parametrize(
    ("line", "action", "words"),
    [
        ("Okay so now we're gonna chop the onion.", "Chop the onion.", (5, 7)),
        ("First of all flip it over.", "Flip it over.", (3, 5)),
        ("chop the onion like I always do you know", "Chop the onion.", (0, 2)),
        ("well you add two tablespoons of oil there", "Add 2 tbsp of oil.", (2, 6)),
        # Another form of the word is the word; a small word far from the others is not.
        ("it was sliced the tomatoes", "Slice the tomatoes.", (2, 4)),
        ("in the end you stir it in", "Stir it in.", (4, 6)),
        # Nothing of it was said in words that count: the sentence.
        ("go for it then", "Go for it.", (0, 3)),
    ],
)
def test_an_action_is_from_its_first_to_its_last_word(
    line: str, action: str, words: tuple[int, int]
) -> None:
    where, confidence = said_by(action, [spoken(line)])
    assert (where.start_s, where.end_s) == (10.0 + words[0] / 2, 10.5 + words[1] / 2)
    if words != (0, 3):
        assert confidence == pytest.approx(1 - np.mean(words) / 100, abs=1e-4)


def test_an_action_of_two_lines_goes_from_one_into_the_other() -> None:
    lines = [spoken("so take the pan"), spoken("and grease it well okay", start_s=20.0)]
    where, _ = said_by("Take the pan and grease it well.", lines)
    assert (where.start_s, where.end_s) == (10.5, 22.0)
    one_unknown = [lines[0], replace(lines[1], words=[])]
    where, confidence = said_by("Take the pan and grease it well.", one_unknown)
    assert (where.start_s, where.end_s, confidence) == (10.0, 22.5, 0.5)


def test_words_of_a_translation_have_no_times_of_their_own() -> None:
    line = replace(spoken("Corta el pan con chop"), english="Chop the bread.")
    where, confidence = said_by("Chop the bread.", [line])
    assert (where.start_s, where.end_s, confidence) == (10.0, 12.5, 0.5)
