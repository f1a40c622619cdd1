"""The films of the shot benchmark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.films import FORMS, Form, draw_film, write_film
from examples.drawing import moving_blobs
from examples.media import Scene, write_video


@pytest.mark.parametrize("form", [form for form in FORMS if form.weave], ids=lambda form: form.name)
def test_the_same_film_of_fields_has_the_same_bytes(form: Form, tmp_path: Path) -> None:
    clips = [tmp_path / f"{number}.mp4" for number in range(2)]
    for number, clip in enumerate(clips):
        scene = Scene(duration_s=1.0, picture=moving_blobs(number, (200, 120, 60)))
        write_video(clip, [scene], fps=25, audio=False, width_px=160, height_px=96)
    film = replace(draw_film(clips, 2, 0), duration_s=1.5)
    path = tmp_path / "film.mp4"
    files = set()
    for _ in range(3):
        write_film(path, film, form)
        files.add(path.read_bytes())
    assert len(files) == 1
