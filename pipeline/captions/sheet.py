"""Captions rated by people who do not know what wrote them: how well is the action told, how the objects?

The four marks are those that the paper's annotators gave; their meanings in words are ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from pipeline.captions.dataset import CaptionedClip, Captions, Key, compared
from pipeline.captions.frames import Shown
from pipeline.evaluation.figures import Figure, measured
from pipeline.evaluation.judging import smaller
from pipeline.evaluation.rating_sheet import Form, Item, Rating, Row, Scale, read_ratings, write_sheet

PICTURE_PX = 320
BOTH = "action and object"
MARKS = {
    100: "right and complete",
    85: "right, something small is missing",
    70: "partly right, or much is missing",
    0: "wrong, or not there",
}
FORM = Form(
    introduction="Each clip below is shown by pictures in order of time, under a caption that may come "
    "from a machine. Please rate every caption twice: how it tells what is done, and how it names and "
    "describes the objects. Judge by the pictures alone. At the end, save your ratings and send the file "
    "back.",
    item="clip",
    scales=(
        Scale(name="action", title="action", question="Does the caption tell what is done?", answers=MARKS),
        Scale(
            name="object",
            title="object",
            question="Does it name and describe what is there, and nothing that is not?",
            answers=MARKS,
        ),
    ),
)


def write_caption_sheet(
    datasets: Sequence[Captions],
    samples: Sequence[Sequence[CaptionedClip]],
    shown: Shown,
    out: Path,
    *,
    seed: int,
) -> str:
    """A sheet of the sampled clips that have pictures, and its key; returns the sheet's identity."""
    items = [
        Item(
            text=clip.caption,
            rows=[
                Row(
                    text="",
                    pictures=[smaller(jpeg, PICTURE_PX) for jpeg in shown.pictures[clip.key]],
                )
            ],
            truth={
                "dataset": dataset.name,
                "place": str(place),
                "clip_id": clip.clip_id,
                "video_id": clip.video_id,
                "start_s": repr(clip.start_s),
                "end_s": repr(clip.end_s),
            },
        )
        for place, (dataset, clips) in enumerate(zip(datasets, samples, strict=True))
        for clip in clips
        if clip.key in shown.pictures
    ]
    return write_sheet(FORM, items, out, seed=seed)


def rated_figures(paths: Sequence[Path], key: Path, *, seed: int) -> list[Figure]:
    """Marks of each dataset, and how later datasets differ from the first; intervals are over videos.

    A caption's mark is the mean over its raters, so that one who rated more does not weigh more.

    Raises:
        RatingError: see :func:`pipeline.evaluation.rating_sheet.read_ratings`.
    """
    found = read_ratings(paths, key, FORM)
    note = f"0 to 100, {len(paths)} rater{'s' if len(paths) != 1 else ''}"
    places = {truth["dataset"]: int(truth["place"]) for truth in found.truths}
    names = sorted(places, key=places.__getitem__)
    videos = {_key(each): each.truth["video_id"] for each in found.given}
    marks = {
        f"{title} (rated)": {name: _means(found.given, name, scales) for name in names}
        for title, scales in (
            ("action", ("action",)),
            ("object", ("object",)),
            (BOTH, ("action", "object")),
        )
    }
    figures = [
        measured(
            f"captions {name}",
            title,
            list(own[name].values()),
            [videos[clip] for clip in own[name]],
            better="higher",
            note=f"{len(own[name])} captions; {note}",
            seed=seed,
        )
        for name in names
        for title, own in marks.items()
    ]
    if len(names) > 1:
        for title, own in marks.items():
            figures += compared(title, own, videos, note=note, seed=seed)
    return figures


def _means(ratings: Sequence[Rating], dataset: str, scales: Sequence[str]) -> dict[Key, float]:
    scores: dict[Key, list[int]] = defaultdict(list)
    for each in ratings:
        if each.truth["dataset"] == dataset and each.scale in scales:
            scores[_key(each)].append(each.score)
    return {key: fmean(own) for key, own in scores.items()}


def _key(rating: Rating) -> Key:
    truth = rating.truth
    return truth["clip_id"], float(truth["start_s"]), float(truth["end_s"])
