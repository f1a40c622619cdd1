"""Leaving out pictures that no other refers to changes no result."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples.drawing import moving_blobs
from examples.media import Scene, write_video
from models.errors import MediaError
from models.language import Endpoint
from models.media import (
    Bounds,
    Frame,
    Losses,
    NotSparseError,
    Skipped,
    frames,
    open_media,
    read_again,
    sparse_frames,
    start_of,
)
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Workspace
from stages.records import Evidence, Facts, Video
from stages.scan import stage
from stages.scan.shots import Boundaries, ShotSettings
from stages.scan.sparse import SparseShots
from stages.scan.stage import Scan, ScanSettings
from tests.support.odd_files import write_film

DATA = os.environ.get("VIDEOAUTEUR_DATA")
SUFFIXES = {".mp4", ".mkv", ".ts", ".avi", ".webm"}


def footage() -> Iterator[Path]:
    """Yield all videos of the footage."""
    for path in sorted(Path(DATA).rglob("*")) if DATA else ():
        if path.suffix in SUFFIXES:
            yield path


def scanned(path: Path, scratch: Path, decode: str, *, shake: bool = False) -> tuple[Evidence | str, bytes]:
    """Return the evidence, or why there is none, and the packed frames."""
    scan = Scan(ScanSettings.model_validate({"decode": decode}), shake=shake)
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
    answers = Memo(scratch / "memo")
    workspace = Workspace(scratch=scratch / decode, answers=answers, language=nowhere, vision=None)
    scan.open(workspace)
    with open_media(path) as container:
        stream = container.streams.video[0]
        facts = Facts(
            container=container.format.name, video_codec=stream.codec.name, audio_codec=None, title="",
            duration_s=1.0, width_px=stream.width, height_px=stream.height, rotation_deg=0,
            fps=float(stream.average_rate or 25),
        )  # fmt: skip
    video = Video(uri=path.as_uri(), video_id="a" * 16, content_id="a" * 64, facts=facts)
    try:
        result = scan.measure(video)
    except (BadInputError, MediaError) as error:
        return str(error), b""
    assert result.evidence is not None
    return result.evidence, workspace.frames_path(video).read_bytes()


@pytest.fixture(autouse=True)
def _small_pictures_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SPARSE_FROM_PX", 0)


@pytest.mark.skipif(DATA is None, reason="VIDEOAUTEUR_DATA names no footage")
@pytest.mark.parametrize("path", list(footage()), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_boundaries_and_packed_frames_are_those_of_the_full_decode(path: Path, tmp_path: Path) -> None:
    assert scanned(path, tmp_path, "needed") == scanned(path, tmp_path, "all")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Three shots as H.264 with pictures that no other refers to."""
    path = tmp_path / "film.mp4"
    colours = ((200, 120, 60), (60, 140, 200), (120, 190, 80))
    scenes = [Scene(duration_s=2.0, picture=moving_blobs(n, colour)) for n, colour in enumerate(colours)]
    write_video(path, scenes, fps=25, audio=False, width_px=160, height_px=96)
    return path


def test_a_made_film_has_the_same_evidence(film: Path, tmp_path: Path) -> None:
    sparse, packed = scanned(film, tmp_path, "needed")
    assert isinstance(sparse, Evidence)
    assert [shot.start_s for shot in sparse.shots] == pytest.approx([0.0, 2.0, 4.0])
    assert (sparse, packed) == scanned(film, tmp_path, "all")


@pytest.mark.parametrize(("seed", "held"), [(4, 12), (4, 24), (6, 12), (6, 24)])
def test_a_slide_show_has_the_same_boundaries(seed: int, held: int, tmp_path: Path) -> None:
    """The pictures that a cut is compared with lie far from it.

    Args:
        held: pictures of the film for which a slide is shown.
    """
    path = tmp_path / "slides.mp4"
    rng = np.random.default_rng(seed)
    images = []
    for number in range(4):
        red, green, blue = (int(level) for level in np.add((150, 140, 90), rng.integers(-50, 50, 3)))
        shot = moving_blobs(seed * 4 + number, (red, green, blue))(160, 96)
        images += [shot(slide * held / 25 * 2) for slide in range(4) for _ in range(held)]
    write_film(path, images=images)
    assert searched(path, all_pictures=False) == searched(path, all_pictures=True)


def searched(path: Path, *, all_pictures: bool) -> Boundaries:
    """Return the boundaries by the pictures that others refer to, or by all."""
    losses = Losses()
    finder = SparseShots(ShotSettings())
    with open_media(path) as container:
        for frame in sparse_frames(container, lambda *_: all_pictures, bounds=Bounds(), losses=losses):
            finder.add(frame)
        keys_s = losses.key_times(start_of(container))
        for number, picture in read_again(container, finder.wanted(), keys_s, bounds=Bounds()):
            finder.look(number, picture)
    return finder.result()


def test_shake_is_the_same_and_measured_only_if_asked_for(film: Path, tmp_path: Path) -> None:
    sparse, _ = scanned(film, tmp_path, "needed", shake=True)
    without, _ = scanned(film, tmp_path, "needed")
    assert isinstance(sparse, Evidence) and isinstance(without, Evidence)
    assert sparse == scanned(film, tmp_path, "all", shake=True)[0]
    assert sparse.shakes and replace(sparse, shakes=[]) == without


def test_every_picture_is_decoded_or_named_and_decoded_ones_are_unchanged(film: Path) -> None:
    with open_media(film) as container:
        whole = {frame.time_s: frame.picture.to_ndarray() for frame in frames(container)}
    with open_media(film) as container:
        found = sparse_frames(
            container, lambda before_s, time_s: before_s < 1.0 <= time_s, bounds=Bounds(), losses=Losses()
        )
        some = [(one, one.picture.to_ndarray() if isinstance(one, Frame) else None) for one in found]
    assert [one.time_s for one, _ in some] == list(whole)
    assert sum(isinstance(one, Skipped) for one, _ in some) > len(some) / 4
    pixels = {one.time_s: image for one, image in some if image is not None}
    assert 1.0 in pixels
    assert all(np.array_equal(image, whole[time_s]) for time_s, image in pixels.items())


def test_a_damaged_film_must_be_decoded_in_full(film: Path, tmp_path: Path) -> None:
    damaged = bytearray(film.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 400] = b"\x55" * 400
    path = tmp_path / "damaged.mp4"
    path.write_bytes(damaged)
    with open_media(path) as container, pytest.raises(NotSparseError):
        list(sparse_frames(container, lambda *_: False, bounds=Bounds(), losses=Losses()))
    assert scanned(path, tmp_path, "needed") == scanned(path, tmp_path, "all")
