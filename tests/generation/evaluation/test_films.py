"""Figures of finished films, read from folders as the film command leaves them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from generation.core.states import Statistics
from generation.evaluation.films import film_figures, find_films, read_film
from generation.evaluation.text_image import ClipModel
from generation.film.plan import FilmError, Plan
from tests.support.films import BLUE, GREEN, RED, MeanColour, figure, save_film, value
from tests.support.networks import save_tiny_clip


def test_films_are_found_one_by_one_or_in_a_folder(tmp_path: Path) -> None:
    one = save_film(tmp_path / "ours" / "a", [RED])
    save_film(tmp_path / "ours" / "b", [RED, BLUE])
    films = find_films([one, tmp_path / "ours"])
    assert [(film.system, film.name, len(film.shots)) for film in films] == [
        ("ours", "ours/a", 1),
        ("ours", "ours/b", 2),
    ]
    shot = films[1].shots[1]
    assert shot.video.shape == (5, 48, 48, 3) and shot.video[2, 24, 24] == pytest.approx(BLUE, abs=12)
    assert shot.keyframe[0, 0].tolist() == list(BLUE)
    assert shot.state is not None and shot.state.tolist() == [[-57, -57, 113]]


def test_what_is_no_finished_film(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"holds no film: no plan\.json there or one folder below"):
        find_films([tmp_path])
    Plan(goal="How?", seed=0).save(tmp_path)
    with pytest.raises(FilmError, match="is not finished: run videoauteur generate again"):
        find_films([tmp_path])
    film = save_film(tmp_path / "film", [RED])
    (film / "clips/step-01.mp4").unlink()
    with pytest.raises(FilmError, match=r"step-01\.mp4 is missing"):
        read_film(film)


@pytest.mark.parametrize(
    "name", ["clips/step-01.mp4", "keyframes/step-01.png", "states/step-01.safetensors"]
)
def test_a_film_with_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    film = save_film(tmp_path / "film", [RED])
    (film / name).write_bytes((film / name).read_bytes()[:20])
    with pytest.raises(FilmError, match=f"step 1 of {film} is damaged .*: run videoauteur generate again"):
        read_film(film)


def test_films_of_one_name_are_not_counted_as_one(tmp_path: Path) -> None:
    for place in ("before", "after"):
        save_film(tmp_path / place / "ours" / "soup", [RED])
    with pytest.raises(FilmError, match="would both be ours/soup in the table: rename one"):
        find_films([tmp_path / "before/ours", tmp_path / "after/ours"])


def test_coherence_of_films_whose_shots_are_known(tmp_path: Path) -> None:
    """Three pure colours are equally unlike; the last step of one film says and shows the second again."""
    save_film(tmp_path / "ours" / "a", [RED, RED, RED], actions=["Go on.", "Go on!", "Stop."])
    save_film(tmp_path / "ours" / "b", [RED, GREEN, BLUE])
    figures = film_figures(
        find_films([tmp_path / "ours"]), network=MeanColour(), statistics=None, clip=None, seed=0
    )
    assert {each.of for each in figures} == {"films ours"}
    assert value(figures, "consistency, adjacent") == pytest.approx((1 - 0.5) / 2, abs=0.05)
    assert value(figures, "consistency, to the first") == pytest.approx((1 - 0.5) / 2, abs=0.05)
    assert value(figures, "repeated states") == pytest.approx(1 / 2)
    assert value(figures, "repeated actions") == pytest.approx((1 / 2 + 0) / 2)
    missing = figure(figures, "CLIP-T of clips")
    assert missing.value is None and missing.note == "no CLIP given: --clip FOLDER"


def test_statistics_change_what_is_alike(tmp_path: Path) -> None:
    """Measured from red, green and blue walls lie to the same side of the mean."""
    save_film(tmp_path / "ours" / "a", [GREEN, BLUE])
    statistics = Statistics(torch.tensor([[113.0, -57.0, -57.0]]), torch.ones(1, 3))
    figures = film_figures(
        find_films([tmp_path / "ours"]), network=MeanColour(), statistics=statistics, clip=None, seed=0
    )
    assert value(figures, "consistency, adjacent") == pytest.approx(0.5, abs=0.05)
    assert figure(figures, "consistency, adjacent").note == "mean-colour, standardised"


def test_agreement_with_a_clip(tmp_path: Path) -> None:
    """A still clip is what its key frame is, and both show their text equally well or badly."""
    save_film(tmp_path / "ours" / "a", [RED, BLUE])
    clip = ClipModel(save_tiny_clip(tmp_path / "tiny-clip"))
    figures = film_figures(
        find_films([tmp_path / "ours"]), network=MeanColour(), statistics=None, clip=clip, seed=0
    )
    assert value(figures, "CLIP-I of key frame and clip") == pytest.approx(100, abs=1)
    of_clips, of_stills = (value(figures, f"CLIP-T of {what}") for what in ("clips", "key frames"))
    assert of_clips == pytest.approx(of_stills, abs=1)
    assert figure(figures, "CLIP-T of clips").note == "tiny-clip; 2 of 2 texts longer than it reads"
