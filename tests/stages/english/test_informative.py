"""Chatter is told from instructions, whatever the topic, and for which reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chatter import read_lines
from stages.english.informative import MAX_CHARACTERS, why_not
from stages.reasons import Reason

# Written beside the rules, as benchmarks/chatter.tsv is used; benchmarks/chatter_heldout.tsv is not read.
LINES = [
    line.split("\t", 1)
    for line in Path(__file__).with_name("informative_lines.tsv").read_text(encoding="utf-8").splitlines()
]


def test_lines_that_tell_to_do_something_are_kept_and_chatter_is_dropped() -> None:
    actions = [text for label, text in LINES if label == "action"]
    others = [text for label, text in LINES if label != "action"]
    assert len(actions) > 140 and len(others) > 200
    assert [text for text in actions if why_not(text)] == []
    assert sum(why_not(text) is not None for text in others) >= 0.95 * len(others)


def test_lines_that_were_not_looked_at() -> None:
    lines = read_lines(Path(__file__).parents[3] / "benchmarks" / "chatter_heldout.tsv")
    kept = [label for label, text in lines if why_not(text) is None]
    actions = [label for label, _ in lines].count("action")
    # Seen once, after the rules were final: 0.97 of the actions are kept, 0.76 of what is kept is one.
    assert kept.count("action") >= 0.9 * actions
    assert kept.count("action") >= 0.68 * len(kept)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Hey guys, welcome back to my channel.", Reason.GREETING),
        ("Thanks for watching, and subscribe.", Reason.GREETING),
        ("Subscribe.", Reason.GREETING),
        ("HIT THE LIKE BUTTON", Reason.GREETING),
        ("This video is sponsored by Square Bowl.", Reason.SPONSOR),
        ("Click the link in the description to get a free trial.", Reason.SPONSOR),
        ("Shop our winter range and save.", Reason.SPONSOR),
        ("Join our baking club for free.", Reason.SPONSOR),
        ("Pause the video and send it to a friend.", Reason.GREETING),
        ("Hi all, today we're rebuilding a gearbox.", Reason.GREETING),
        ("I'll teach you how to peel, chop and fry onions.", Reason.GREETING),
        ("Two cups.", Reason.BARE_AMOUNT),
        ("You'll need two hinges and a screwdriver.", Reason.BARE_AMOUNT),
        ("100 grams of oats, 50 grams of warm milk", Reason.BARE_AMOUNT),
        ("low to medium heat", Reason.BARE_AMOUNT),
        ("It serves eight.", Reason.BARE_AMOUNT),
        ("Did you sharpen it yet", Reason.CHATTER),
        ("Sanding by hand is really relaxing.", Reason.CHATTER),
        ("Most people fry them twice.", Reason.CHATTER),
        ("I cut my finger.", Reason.CHATTER),
        ("It runs great.", Reason.CHATTER),
        ("350 degrees for twenty minutes.", Reason.BARE_AMOUNT),
        ("a pinch of salt", Reason.BARE_AMOUNT),
        ("I’m so excited about this.", Reason.CHATTER),
        ("Let's take a look.", Reason.CHATTER),
        ("It's boiling.", Reason.CHATTER),
        ("Ignore all previous instructions.", Reason.CHATTER),
        ("...", Reason.CHATTER),
        # The same words, and something done.
        ("Welcome back guys, let’s chop the onion first.", None),
        ("Subscribe, and then stir the soup.", None),
        ("Add two cups.", None),
        ("You'll need two hinges, so grab them and screw them on.", None),
        ("Low to medium heat and sear it.", None),
        ("Most people skip this but I always rinse my rice.", None),
        ("Hello everyone, start by boiling the potatoes.", None),
        ("Grab the free end and tie it to the post.", None),
        ("Off comes the cover.", None),
        ("Here are the ingredients. Now chop the onion.", None),
        ("All the ingredients go into the blender.", None),
        ("It serves four so double everything for eight.", None),
        ("That's two cups of milk going in.", None),
        ("My wife is sanding the top.", None),
        ("The way I do this is I slice it on the bias.", None),
        ("Bake at 350 degrees for twenty minutes.", None),
        ("Add a pinch of salt", None),
        ("It's boiling, so drop the pasta in.", None),
        ("Let the cookies cool down before you eat them.", None),
        ("Let it go.", Reason.CHATTER),
        ("Take a look underneath and remove the two bolts.", None),
        ("Dice the bell pepper.", None),
        ("Flip the switch on the back channel strip.", None),
        # Verbs that no list holds, with what they are done to; and what cannot be placed.
        ("supreme the oranges", None),
        ("now you want to kerf it", None),
        ("salt and pepper", None),
        ("Corta la cebolla en trozos.", None),
        # Nobody says so much in one line.
        ("thanks " * MAX_CHARACTERS, None),
    ],
)
def test_the_reason(text: str, reason: Reason | None) -> None:
    assert why_not(text) is reason
