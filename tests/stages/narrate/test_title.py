"""Goals from what a file says of itself, from speech, and from steps."""

from __future__ import annotations

import pytest

from stages.narrate.title import Title, title_of
from stages.records import Action, Sentence, Transcript, Video
from tests.support.records import file_facts


def video_of(
    *said: str, name: str = "IMG_0001.mp4", own: str = "", done: tuple[str, ...] = (), english: str = ""
) -> Video:
    """A video of a minute for each sentence."""
    facts = file_facts(title=own)
    sentences = [
        Sentence(start_s=60.0 * n, end_s=60.0 * n + 60, text=text, confidence=1.0, english=english)
        for n, text in enumerate(said)
    ]
    actions = [
        Action(
            action_id=f"a{n}", start_s=0.0, end_s=1.0, text=text, asr_text="", confidence=1.0, source="llm"
        )
        for n, text in enumerate(done)
    ]
    return Video(uri=f"file:///videos/{name}", video_id="v", content_id="v", facts=facts, actions=actions,
                 transcript=Transcript(language="en", sentences=sentences, model="m"))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "own", "expected"),
    [
        ("Bread_Soup.mp4", "", "How to make bread soup?"),
        ("BreadSoup.mp4", "", "How to make bread soup?"),
        ("chicken-and--rice (2).final.mov", "", "How to make chicken and rice final?"),
        ("bread_soup_0.mp4", "", "How to make bread soup?"),
        ("How%20to%20boil%20an%20egg.mp4", "", "How to boil an egg?"),
        ("K%C3%BCchen%20%F0%9F%8D%B2.webm", "", "How to make küchen?"),
        # Bytes that are no UTF-8 are left out.
        ("Caf%E9%20latte.mp4", "", "How to make caf latte?"),
        *((f"{name}.mp4", "", "") for name in (
            "IMG_0001", "VID-20240101", "DSC00012", "GOPR0123", "PXL_20240101_123456", "MOV_7", "video",
            "clip%20(3)", "2024-01-01%2012.30", "_", "GLd3aX16zBg", "xHr8X2Wpmno", "a3f9c2e1b0d4",
            "DJI_0012",
        )),
        ("IMG_0001.mp4", "Untitled", ""),
        ("Bread_Soup.mp4", "Onion soup", "How to make onion soup?"),
        ("Bread_Soup.mp4", "My Movie 3", "How to make bread soup?"),
        ("IMG_0001.mp4", "Bread soup, the easy way", "How to make bread soup, the easy way?"),
        ("IMG_0001.mp4", "Easy Beef Stew Recipe (NEW!) | Kitchen Stories", "How to make beef stew?"),
        ("IMG_0001.mp4", "Joe's Kitchen - How To Cook Rice #shorts", "How to cook rice?"),
        ("IMG_0001.mp4", "Knitting a scarf", "How to knit a scarf?"),
        ("IMG_0001.mp4", "Butter chicken", "How to make butter chicken?"),
        ("IMG_0001.mp4", "牛肉面", "How to make 牛肉面?"),
        # Not a camera's name, and found out at once.
        ("IMG_0001.mp4", "1" * 40 + "x", f"How to make {'1' * 40}x?"),
        ("IMG_0001.mp4", "word " * 40, "How to make" + " word" * 11 + "?"),
    ],
)  # fmt: skip
def test_the_file_says_what_it_is(name: str, own: str, expected: str) -> None:
    source = "" if not expected else "file_name" if own in ("", "My Movie 3") else "container"
    assert title_of(video_of(name=name, own=own)) == Title(text=expected, source=source)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Hi everyone, today we're making beef stew.", "How to make beef stew?"),
        ("Today we're going to be doing a really easy banana bread, okay?", "How to make banana bread?"),
        ("I'm going to show you how to make a delicious beef stew for dinner.", "How to make beef stew?"),
        ("In this video I'll show you how I knit a simple scarf.", "How to knit scarf?"),
        (
            "I'll show you how to replace the brake pads on your car.",
            "How to replace brake pads on your car?",
        ),
        ("Welcome back, today's recipe is chicken tikka masala.", "How to make chicken tikka masala?"),
        (
            "I want to share with you my grandma's recipe for apple pie, so let's go.",
            "How to make apple pie?",
        ),
        # A step is not the goal, and not everything that is made is a thing.
        ("We're making a well in the flour.", ""),
        ("Today we're going to make something special.", ""),
        ("I will show you how to do this.", ""),
        ("Stir the soup.", ""),
    ],
)
def test_the_speaker_says_what_it_is(said: str, expected: str) -> None:
    assert title_of(video_of(said)) == Title(text=expected, source="speech" if expected else "")
    # Nobody announces the video in its middle.
    assert title_of(video_of("Stir.", said, "Stir.", "Stir.")).text == ""


def test_the_speaker_may_sum_it_up_at_the_end_and_in_another_language() -> None:
    closing = video_of("Chop it.", "Fry it.", "And that's how you make french toast.")
    assert title_of(closing) == Title(text="How to make french toast?", source="speech")
    french = video_of("Aujourd'hui on fait une soupe.", english="Today we are making a soup.")
    assert title_of(french).text == "How to make soup?"


def test_steps_name_the_goal_where_nothing_else_does() -> None:
    done = ("Chop the onion in a bowl.", "Stir the rice into the bowl.", "Fry the onion with some rice.",
            "Add the onion to the bowl.")  # fmt: skip
    assert title_of(video_of(done=done)) == Title(text="How to prepare onion and rice?", source="steps")
    assert title_of(video_of(done=done[:1])) == Title(text="", source="")
    assert title_of(video_of("Today we make soup.", done=done)).source == "speech"
