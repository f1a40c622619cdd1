"""Join the clips of a film: one file with chapters and subtitles, and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from generation.core.states import Picture
from generation.film.footage import Chapter, as_srt, clip_frames, duration_of, join, mp4_key
from generation.film.plan import Plan, PlannedStep, credit_of
from generation.film.stills import SheetRow, contact_sheet, png_key, write_png
from models.files import parts_digest

FRAMES_ON_SHEET = 4
"""An even number leaves out a clip's middle frame, which is often the key frame beside it."""


def assemble(plan: Plan, out: Path, pictures: Sequence[Picture]) -> bool:
    """Write ``film.mp4``, ``film.srt`` and ``contact_sheet.png`` where they are missing or outdated.

    The plan receives the times of its steps and the name of the film.

    Args:
        pictures: key frames of the steps.

    Returns:
        whether the files existed already.
    """
    path, at = out / "film.mp4", 0.0
    for step in plan.steps:
        step.start_s = round(at, 3)
        at += sum(duration_of(out / clip) for clip in step.clips)
        step.end_s = round(at, 3)
    chapters = [_chapter(step) for step in plan.steps]
    clips = [out / clip for step in plan.steps for clip in step.clips]
    texts = [[chapter.title, chapter.text] for chapter in chapters]
    key = parts_digest("film", plan.goal, texts, [mp4_key(clip) for clip in clips])
    sheet, subtitles = out / "contact_sheet.png", out / "film.srt"
    shown = parts_digest(key, *pictures)
    kept = mp4_key(path) == key and png_key(sheet) == shown and subtitles.is_file()
    if not kept:
        subtitles.write_text(as_srt(chapters), encoding="utf-8")
        write_png(sheet, _sheet(plan, out, chapters, pictures), shown)
        join(path, clips, chapters, title=plan.goal, key=key)
    plan.film = path.name
    return kept


def _sheet(plan: Plan, out: Path, chapters: Sequence[Chapter], pictures: Sequence[Picture]) -> Picture:
    rows = []
    for step, chapter, picture in zip(plan.steps, chapters, pictures, strict=True):
        video = [frame for clip in step.clips for frame in clip_frames(out / clip)]
        places = np.linspace(0, len(video) - 1, FRAMES_ON_SHEET).round().astype(int)
        shown = [picture, *(video[at] for at in places)]
        rows.append(SheetRow(title=chapter.title, text=_shown_text(step), pictures=shown))
    return contact_sheet(plan.goal, rows)


def _chapter(step: PlannedStep) -> Chapter:
    assert step.start_s is not None and step.end_s is not None
    lines = dict.fromkeys((step.action, step.caption))
    text = "\n".join([*lines, *([] if step.source is None else [credit_of(step.source)])])
    # An empty line would end a subtitle.
    text = "\n".join(line for line in text.splitlines() if line.strip())
    return Chapter(
        start_s=step.start_s, end_s=step.end_s, title=f"{step.step}. {step.action}".strip(), text=text
    )


def _shown_text(step: PlannedStep) -> str:
    """Return what stands under a step's title on the contact sheet; not the title again."""
    caption = "" if step.caption == step.action else step.caption
    return caption if step.source is None else f"{caption} [{credit_of(step.source)}]".strip()
