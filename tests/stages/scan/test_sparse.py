"""Leaving out pictures that no other refers to changes no result."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from examples.drawing import moving_blobs
from examples.media import Scene, write_video
from models.errors import MediaError
from models.language import Endpoint
from models.media import (
    Bounds,
    Choice,
    Frame,
    InOrderError,
    Losses,
    Reduced,
    Skipped,
    frames,
    open_media,
    read_again,
    side_by_side,
    start_of,
)
from models.media.sparse import Wanted
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Workspace
from stages.records import Evidence, Facts, Video
from stages.scan import stage
from stages.scan.shots import Boundaries, ShotSettings
from stages.scan.sparse import SparseShots
from stages.scan.stage import Scan, ScanSettings
from stages.scan.thumbnails import ThumbnailMaker
from tests.support.odd_files import write_film

Picture: TypeAlias = NDArray[np.uint8]
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
    again = partial(open_media, path)
    makers = [ThumbnailMaker() for _ in range(2)]
    with again() as container:
        needed = Choice(lambda *_: all_pictures, start_of(container))
        reducers = [lambda frame, _, make=make: make(frame.time_s, frame.picture) for make in makers]
        for one in side_by_side(container, again, reducers, needed, bounds=Bounds(), losses=losses):
            finder.add(one if isinstance(one, Skipped) else one.kept)
        keys_s = losses.key_times(start_of(container))
    looks = [lambda frame, make=make: make(frame.time_s, frame.picture) for make in makers]
    for number, thumbnail in read_again(again, looks, finder.wanted(), keys_s, bounds=Bounds()):
        finder.look(number, thumbnail)
    return finder.result()


def test_shake_is_the_same_and_measured_only_if_asked_for(film: Path, tmp_path: Path) -> None:
    sparse, _ = scanned(film, tmp_path, "needed", shake=True)
    without, _ = scanned(film, tmp_path, "needed")
    assert isinstance(sparse, Evidence) and isinstance(without, Evidence)
    assert sparse == scanned(film, tmp_path, "all", shake=True)[0]
    assert sparse.shakes and replace(sparse, shakes=[]) == without


def test_every_picture_is_decoded_or_named_and_decoded_ones_are_unchanged(film: Path) -> None:
    whole = decoded_in_order(film)
    some = decoded_side_by_side(film, lambda before_s, time_s: before_s < 1.0 <= time_s)
    assert [one.time_s for one in some] == list(whole)
    assert sum(isinstance(one, Skipped) for one in some) > len(some) / 4
    pixels = {one.time_s: one.kept for one in some if isinstance(one, Reduced)}
    assert 1.0 in pixels
    assert all(np.array_equal(image, whole[time_s]) for time_s, image in pixels.items())


def decoded_in_order(path: Path) -> dict[float, Picture]:
    """Return all pictures by time."""
    with open_media(path) as container:
        return {frame.time_s: frame.picture.to_ndarray() for frame in frames(container)}


def decoded_side_by_side(
    path: Path, wanted: Wanted, decoders: int = 3, losses: Losses | None = None
) -> list[Reduced[Picture] | Skipped]:
    """Return pictures and skipped ones."""
    again = partial(open_media, path)
    reducers = [lambda frame, _: frame.picture.to_ndarray()] * decoders
    with again() as container:
        needed = Choice(wanted, start_of(container))
        found = side_by_side(container, again, reducers, needed, bounds=Bounds(), losses=losses or Losses())
        return list(found)


CODINGS = {
    "closed": ("libx264", {"x264-params": "keyint=30:min-keyint=30:scenecut=0"}),
    "open groups": ("libx264", {"x264-params": "keyint=30:min-keyint=30:scenecut=0:open-gop=1"}),
    "no key frames but the first": ("libx264", {"x264-params": "keyint=infinite:scenecut=0"}),
    "refreshed line by line": ("libx264", {"x264-params": "keyint=30:intra-refresh=1:bframes=0"}),
    "MPEG-2 with open groups": ("mpeg2video", {"g": "15", "bf": "2"}),
    "VP9 with hidden pictures": ("libvpx-vp9", {"g": "30", "deadline": "realtime", "lag-in-frames": "10"}),
    "key frames only": ("mjpeg", {}),
}


@pytest.mark.parametrize("coding", list(CODINGS))
@pytest.mark.parametrize("decoders", [1, 3])
def test_pictures_decoded_side_by_side_are_those_decoded_in_order(
    coding: str, decoders: int, tmp_path: Path
) -> None:
    codec, options = CODINGS[coding]
    path = tmp_path / "film.mkv"
    shots = [moving_blobs(number, (200, 120, 60 + 40 * number)) for number in range(3)]
    images = [shots[n // 60](160, 96)(n / 25) for n in range(180)]
    write_coded(path, images, codec, options)
    whole = decoded_in_order(path)
    found = decoded_side_by_side(path, lambda *_: True, decoders)
    assert [one.time_s for one in found] == list(whole)
    for one in found:
        assert isinstance(one, Reduced)
        assert np.array_equal(one.kept, whole[one.time_s])


def write_coded(path: Path, images: list[Picture], codec: str, options: dict[str, str]) -> None:
    """Write a film of 25 pictures a second without sound."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = images[0].shape[1::-1]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_an_error_in_a_reducer_ends_the_reading(film: Path) -> None:
    def fails(frame: Frame, _: float) -> None:
        if frame.time_s > 2:
            raise ArithmeticError("too late")

    before = threading.active_count()
    again = partial(open_media, film)
    with again() as container, pytest.raises(ArithmeticError, match="too late"):
        list(side_by_side(container, again, [fails] * 2, lambda _: True, bounds=Bounds(), losses=Losses()))
    assert threading.active_count() == before


def test_reading_that_is_left_early_ends_its_threads(film: Path) -> None:
    before = threading.active_count()
    again = partial(open_media, film)
    with again() as container:
        found = side_by_side(
            container, again, [lambda *_: None] * 2, lambda _: True, bounds=Bounds(), losses=Losses()
        )
        next(found)
        found.close()
    assert threading.active_count() == before


def test_a_file_that_grows_beyond_its_bounds_is_refused(film: Path) -> None:
    again = partial(open_media, film)
    with again() as container, pytest.raises(MediaError, match="more than 40 pictures"):
        list(
            side_by_side(
                container, again, [lambda *_: None] * 2, lambda _: True,
                bounds=Bounds(max_pictures=40), losses=Losses(),
            )
        )  # fmt: skip


def test_a_damaged_film_must_be_decoded_in_full(film: Path, tmp_path: Path) -> None:
    damaged = bytearray(film.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 400] = b"\x55" * 400
    path = tmp_path / "damaged.mp4"
    path.write_bytes(damaged)
    with pytest.raises(InOrderError):
        decoded_side_by_side(path, lambda *_: False)
    assert scanned(path, tmp_path, "needed") == scanned(path, tmp_path, "all")
