"""Rules of captions: every rule rejects, and spares text that only looks like an offence."""

from __future__ import annotations

import pytest

from stages.english.caption_rules import CaptionLimits, Complaint, Rule, complaints, shortened, tidy

PAPER = CaptionLimits()
GOOD = (
    "A cook in a grey apron peels a large orange carrot over a steel bowl. The peel falls into the bowl in "
    "long strips. By the end the carrot is bare and lies on a wooden board beside two onions."
)


def rules(text: str, limits: CaptionLimits = PAPER) -> list[Rule]:
    return [complaint.rule for complaint in complaints(text, limits)]


def test_a_good_caption_has_no_complaints() -> None:
    assert complaints(GOOD, PAPER) == []


@pytest.mark.parametrize("text", ["", " \n\t", "...", "\x00", "\ud800"])
def test_no_words_are_no_caption(text: str) -> None:
    assert complaints(text, PAPER) == [Complaint(Rule.EMPTY, "there is no text")]


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't describe people.", True),
        ("I am unable to identify the person.", True),
        ("Sorry, I cannot help with that.", True),
        ("As an AI I see no people.", True),
        ("I cannot assist with this request.", True),
        ("A sorry heap of peel lies on the board.", False),
        ("A hand that cannot reach the shelf takes a stool.", False),
    ],
)
def test_a_refusal_in_the_place_of_a_caption(text: str, refused: bool) -> None:
    assert rules(text) == ([Rule.REFUSAL] if refused else [])


def test_lengths_are_counted_and_told() -> None:
    words = " ".join(f"word{index}" for index in range(81)) + "."
    assert complaints(words, PAPER) == [Complaint(Rule.LENGTH, "it has 81 words; at most 80 are allowed")]
    assert complaints(words, CaptionLimits(max_words=81)) == []
    six = "Oil heats. Garlic fries. Salt falls. Steam rises. Rice boils. Peas roll."
    assert complaints(six, PAPER) == [
        Complaint(Rule.SENTENCES, "it has 6 sentences; at most 5 are allowed")
    ]
    assert complaints(six, CaptionLimits(max_sentences=6)) == []


def test_words_without_spaces_do_not_pass_a_limit_on_words() -> None:
    assert complaints("x" * 961, PAPER) == [Complaint(Rule.LENGTH, "it has 961 characters in 1 words")]
    assert complaints("x" * 960, PAPER) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Chop 1.5 leeks. Then fry.", 2),
        ("Add approx. two cups of rice.", 1),
        ('The label reads "Step 1." The pan is hot.', 2),
        ("(A pan.) 3 eggs boil! Are they done? Yes.", 4),
    ],
)
def test_sentences_end_where_a_new_one_begins(text: str, count: int) -> None:
    assert (Rule.SENTENCES in rules(text, CaptionLimits(max_sentences=count))) is False
    assert (Rule.SENTENCES in rules(text, CaptionLimits(max_sentences=count - 1))) is True


@pytest.mark.parametrize(
    ("text", "talk"),
    [
        ("A person glues a wooden frame.", False),
        ("The cook hangs a picture frame above the stove.", False),
        ("A hand lifts two bee frames out of the box.", False),
        ("A tray cools on a metal frame in the kitchen.", False),
        ("The cook frames the pastry with dough.", False),
        ("A picture of a cow hangs on the wall.", False),
        ("In the frame a cook chops leek.", True),
        ("A cook chops leek in this frame.", True),
        ("Frame 3 has a pot.", True),
        ("The Frames show a pot.", True),
        ("A pot boils across the frames.", True),
        ("The first frame has a pot, the last frame a plate.", True),
        ("By the next frame the pot is gone.", True),
        ("A pot appears in the last few frames.", True),
        ("The frame shows a pot.", True),
        ("A hand enters the frame.", True),
        ("Dough fills the frame.", True),
        ("A jar stands at the right edge of the frame.", True),
        ("The bees crawl over the wax of the frame.", False),
        ("These pictures are of a pot.", True),
        ("The first image shows a pot.", True),
        ("Across the images a pot comes to the boil.", True),
    ],
)
def test_a_frame_that_stands_in_the_kitchen_is_no_talk_of_frames(text: str, talk: bool) -> None:
    assert rules(text) == ([Rule.FRAME_TALK] if talk else [])


@pytest.mark.parametrize(
    ("text", "assumed"),
    [
        ("A man says that the soup is ready.", True),
        ("The cook explains how to peel garlic.", True),
        ("Two women are discussing the dough.", True),
        ("A cook is talking about knives.", True),
        ("A woman speaks to a man beside the stove.", True),
        ("They have a conversation over a pot.", True),
        ("A woman talks to the camera beside a stove.", False),
        ("A man speaking to the viewer holds a knife.", False),
        ('The label says "Salt" in red letters.', False),
        ("A text says how hot the oven is.", False),
        ("A woman opens her mouth and lifts a spoon.", False),
        ("Instructional text fades in.", False),
    ],
)
def test_what_is_said_cannot_be_seen(text: str, assumed: bool) -> None:
    assert rules(text) == ([Rule.CONVERSATION] if assumed else [])


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("A cook chops an onion. The cook is chopping the onion.", "The cook is chopping the onion."),
        ("Oil heats. A pan smokes. Oil is heating.", "Oil is heating."),
        ("A cook chops the red onion on a board. Later she adds oil and chops the onion.",
         "chops the onion"),
        ("She stirs the pot and lifts a lid before stirring the pot once more.", "stirring the pot"),
        ("The dough is turned and turned and turned and turned.", "turned and turned and turned and"),
        ("She stirs the pot and stirs the pot and eats.", "stirs the pot and stirs the pot and"),
        ("Half and half and macaroni boil in water.", None),
        ("A cook peels a carrot and adds it to a bowl. A cook peels a leek and adds it to a bowl.", None),
        ("A cook drains the tofu. Cut the tofu. Cut the mushrooms.", None),
        ("A hand stirs, stirs, stirs in a bowl.", "stirs stirs stirs"),
        ("A cook places a slice of bread on a plate, then places a slice of tomato on it.", None),
        ("The cook pours the oil into a pan. A hand pours the batter into the pan.", None),
        ("The cook uses a knife to halve a leek and uses a knife to crush garlic.", None),
        ("The dough is folded over and over. Across the board lies flour, across the board rice.", None),
        ("A cook chops leek on a white board. The leek lies on the white board in rings.", None),
    ],
)  # fmt: skip
def test_nothing_is_told_twice(text: str, again: str | None) -> None:
    expected = [] if again is None else [Complaint(Rule.REPETITION, f'it repeats itself: "{again}"')]
    assert complaints(text, PAPER) == expected


def test_all_offences_are_named_together() -> None:
    text = "In this frame a man says hello. In this frame a man says hello."
    assert rules(text, CaptionLimits(max_words=8, max_sentences=1)) == [
        Rule.LENGTH, Rule.SENTENCES, Rule.FRAME_TALK, Rule.REPETITION, Rule.CONVERSATION,
    ]  # fmt: skip


@pytest.mark.parametrize("piece", ["Oil heats. ", "frame ", "x", "I'm ", "stirs the pot and ", "\u2028"])
def test_an_endless_answer_is_examined_at_once(piece: str) -> None:
    """Ten million characters; a rule that looks at all pairs of anything would not come back."""
    text = piece * (10_000_000 // len(piece))
    broken = rules(text)
    assert {Rule.LENGTH, Rule.EMPTY} & set(broken)
    assert len(shortened(text, PAPER).split()) <= 80


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", ""),
        ("Chop it. Fry it.", "Chop it. Fry it."),
        ("Chop the leek. Fry the leek! Eat it.", "Chop the leek."),
        ("Chop 1.5 leeks. Then fry.", "Chop 1.5 leeks. Then fry."),
        ("Chop the leek and the onion. Fry.", "Chop the leek and the"),
        ("One. Two. Three. Four.", "One. Two. Three."),
        ("Chop leek. Leek is chopped. Fry it.", "Chop leek. Fry it."),
        ("She stirs the pot. Stirring the pot. Eats.", "She stirs the pot. Eats."),
    ],
)
def test_a_long_caption_ends_with_a_whole_sentence(text: str, short: str) -> None:
    assert shortened(text, CaptionLimits(max_words=5, max_sentences=3)) == short


def test_a_caption_is_one_line_of_text_that_can_be_stored() -> None:
    assert tidy("  A\x00 pan\u2028 is\r\nhot \ud83d ") == "A pan is hot"
    assert tidy("crème brûlée 🍮").encode() == "crème brûlée 🍮".encode()
