"""One pass over films whose every cut is known: times are those at which a player shows the frames."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import av
import cv2
import numpy as np
import pytest

from examples.drawing import Animation, Image, Picture, moving_blobs, plain
from examples.media import Scene, write_video
from models.errors import MediaError
from models.language import Endpoint
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.platform.memo import Memo
from stages.base import BadInputError, Workspace
from stages.frames import read_frames, read_pictures
from stages.probe import Probe
from stages.reasons import Reason
from stages.records import Evidence, Video
from stages.scan.stage import Scan
from tests.support.odd_files import rewritten
from tests.support.records import evidence, file_facts

COLOURS = ((200, 120, 60), (60, 140, 200), (120, 190, 80))
SIZE: dict[str, Any] = {"width_px": 160, "height_px": 96}


def shots(*seconds: float) -> list[Scene]:
    """One shot for each length, no two of neighbouring ones alike."""
    return [
        Scene(duration_s=length, picture=moving_blobs(seed, COLOURS[seed % 3]))
        for seed, length in enumerate(seconds)
    ]


def scanned(
    path: Path, scratch: Path, *, probe: Mapping[str, float] = MappingProxyType({}), **settings: object
) -> Video:
    """Probe and scan a file whatever its length; packed frames lie under ``scratch``."""
    config = {
        "probe": {"min_duration_s": 0, **probe},
        "transcribe": {"require_speech": False},
        "scan": settings,
    }
    first, scan, *_ = build_stages(Config.model_validate(config))
    assert isinstance(first, Probe) and isinstance(scan, Scan)
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
    scan.open(Workspace(scratch=scratch, answers=Memo(scratch / "memo"), language=nowhere, vision=None))
    return scan(first(Video(uri=path.as_uri(), video_id="a" * 16, content_id="a" * 64)))


def evidence_of(path: Path, scratch: Path, **settings: object) -> Evidence:
    video = scanned(path, scratch, **settings)
    assert video.rejected is None and video.evidence is not None
    return video.evidence


def packed(scratch: Path) -> Path:
    return scratch / "frames" / "aa" / f"{'a' * 16}.zip"


def shown_at(path: Path) -> list[float]:
    """Presentation times of all frames, by PyAV alone."""
    with av.open(path) as container:
        frames = container.decode(video=0)
        times = [frame.time for frame in frames if frame.time is not None]
    return [time_s - times[0] for time_s in times]


def cuts(evidence: Evidence) -> list[float]:
    return [shot.start_s for shot in evidence.shots[1:]]


@pytest.mark.parametrize(
    ("suffix", "fps", "dropped_share"),
    [
        (".mp4", 25, 0.0),
        (".mp4", Fraction(30000, 1001), 0.0),
        (".mkv", Fraction(24000, 1001), 0.0),
        (".mp4", 30, 0.3),
        (".ts", 25, 0.0),
    ],
    ids=["25", "29.97", "23.976", "variable", "transport-stream"],
)
def test_cuts_shots_and_packed_frames(
    suffix: str, fps: int | Fraction, dropped_share: float, tmp_path: Path
) -> None:
    path = tmp_path / f"film{suffix}"
    truth = write_video(
        path, shots(2.2, 1.6, 2.7), fps=fps, dropped_share=dropped_share, audio=False, **SIZE
    )
    evidence = evidence_of(path, tmp_path)
    # The container's clock: milliseconds in Matroska, 1/90,000 s in a transport stream.
    assert cuts(evidence) == pytest.approx(truth.cuts_s, abs=5.1e-4)
    assert evidence.shots[0].start_s == 0.0
    assert evidence.shots[-1].end_s == pytest.approx(truth.duration_s, abs=2e-3)
    assert all(before.end_s == after.start_s for before, after in pairwise(evidence.shots))
    assert evidence.num_frames == truth.num_frames

    times = shown_at(path)
    grid = [min(time for time in times if time >= step / 2 - 1e-6) for step in range(13)]
    assert evidence.frame_times_s == pytest.approx(grid, abs=1e-6)
    for scores in (evidence.sharpness, evidence.exposure, evidence.motion):
        assert len(scores) == len(grid)
        assert all(0 <= score <= 1 for score in scores)
    with zipfile.ZipFile(packed(tmp_path)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == len(grid)
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    pictures = read_pictures(packed(tmp_path), evidence.frame_times_s)
    assert {picture.shape for picture in pictures} == {(96, 160, 3)}


def test_a_broadcast_recording_starts_at_0_whatever_its_clock_says(tmp_path: Path) -> None:
    source, path = tmp_path / "film.mp4", tmp_path / "film.ts"
    truth = write_video(source, shots(1.0, 1.0), fps=25, audio=False, **SIZE)
    rewritten(source, path, later_s=5000)
    with av.open(path) as container:
        assert container.start_time is not None and container.start_time >= 5_000_000_000
    evidence = evidence_of(path, tmp_path)
    assert evidence.frame_times_s == [0.0, 0.52, 1.0, 1.52]
    assert cuts(evidence) == pytest.approx(truth.cuts_s)


@pytest.mark.parametrize(
    ("settings", "height", "count"),
    [({"short_side_px": 64}, 64, 4), ({"short_side_px": 448}, 96, 4), ({"grid_fps": 5}, 96, 10)],
)
def test_packed_frames_as_configured(
    settings: dict[str, int], height: int, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, shots(2.0), fps=10, audio=False, **SIZE)
    evidence = evidence_of(path, tmp_path, **settings)
    jpegs = read_frames(packed(tmp_path), evidence.frame_times_s)
    assert len(jpegs) == count
    for jpeg in jpegs:
        assert jpeg.startswith(b"\xff\xd8")
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None and picture.shape == (height, round(160 * height / 96), 3)


def test_a_packed_frame_is_the_picture_of_its_time(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    write_video(path, [Scene(duration_s=1, picture=plain(colour)) for colour in colours], fps=10)
    evidence = evidence_of(path, tmp_path)
    # Asked for out of order, they come in the order of the question.
    times = [evidence.frame_times_s[index] for index in (5, 0, 3)]
    means = [picture.mean(axis=(0, 1))[::-1] for picture in read_pictures(packed(tmp_path), times)]
    assert np.allclose(means, [colours[2], colours[0], colours[1]], atol=8)


@pytest.mark.parametrize(
    ("min_shot_s", "found"), [(0.5, [1.0, 2.0]), (0.2, [1.0, 1.3, 2.0])], ids=["default", "shorter"]
)
def test_a_cut_soon_after_another_is_none(min_shot_s: float, found: list[float], tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, shots(1.0, 0.3, 0.7, 1.0), fps=30, audio=False, **SIZE)
    assert cuts(evidence_of(path, tmp_path, min_shot_s=min_shot_s)) == pytest.approx(found)


def test_a_jump_in_time_is_no_cut_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    scene = moving_blobs(1, COLOURS[0])
    # The same scene from its beginning, after three seconds of it: everything has moved.
    scenes = [Scene(duration_s=3, picture=scene), Scene(duration_s=2, picture=lambda *size: scene(*size))]
    truth = write_video(path, scenes, fps=10, audio=False, **SIZE)
    assert truth.cuts_s == (3.0,)
    assert cuts(evidence_of(path, tmp_path)) == []
    assert cuts(evidence_of(path, tmp_path, detector="adaptive")) == [3.0]


def still(colour: tuple[int, int, int]) -> Picture:
    """Sharp edges that never move."""

    def prepare(width_px: int, height_px: int) -> Animation:
        image: Image = np.full((height_px, width_px, 3), colour, np.uint8)
        image[::8] = 255 - image[0, 0]
        return lambda time_s: image

    return prepare


def test_scores_tell_black_white_still_and_moving_apart(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    pictures = [plain((0, 0, 0)), plain((255, 255, 255)), still((40, 90, 60)), moving_blobs(1, COLOURS[0])]
    scenes = [Scene(duration_s=2, picture=picture) for picture in pictures]
    write_video(path, scenes, fps=10, audio=False, **SIZE)
    evidence = evidence_of(path, tmp_path)
    # The first frame of a shot differs from the shot before it, so three of four count.
    by_scene = [slice(4 * index + 1, 4 * index + 4) for index in range(4)]
    sharpness, exposure, motion = (
        [np.array(scores[scene]) for scene in by_scene]
        for scores in (evidence.sharpness, evidence.exposure, evidence.motion)
    )
    assert max(exposure[0]) < 0.01 and min(exposure[1]) > 0.99
    assert max(sharpness[0]) < 0.01 and max(sharpness[1]) < 0.01
    assert max(motion[0]) == 0 and max(motion[1]) == 0
    rules = Config().clip
    assert max(motion[2]) < rules.min_motion < min(motion[3])
    assert min(sharpness[2]) > rules.min_sharpness and min(sharpness[3]) > rules.min_sharpness


def test_a_file_whose_second_half_is_missing_is_truncated(tmp_path: Path) -> None:
    whole, half = tmp_path / "whole.mp4", tmp_path / "half.mp4"
    write_video(tmp_path / "film.mp4", shots(2.0, 2.0, 2.0), **SIZE)
    rewritten(tmp_path / "film.mp4", whole, movflags="faststart")
    assert evidence_of(whole, tmp_path).shots[-1].end_s == 6.0
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video = scanned(half, tmp_path)
    assert video.rejected is not None and video.rejected.reason is Reason.TRUNCATED
    assert video.rejected.stage == "scan"
    assert video.rejected.detail.endswith("s of 6.00 s")
    assert scanned(half, tmp_path, max_missing_share=0.9).rejected is None


def test_pictures_that_begin_long_after_the_sound_are_stamped_by_another_clock() -> None:
    """Times of transport streams wrap after 26 hours, so the demuxer may state one start for both."""
    facts = file_facts(20.0, start_s=4556.3)
    seen = evidence(4556.3, 4576.3, num_frames=500)
    video = Video(uri="file:///film.ts", video_id="a" * 16, content_id="a" * 64, facts=facts, evidence=seen)
    scan = build_stages(Config())[1]
    judged = scan.judge(video)
    assert judged.rejected is not None
    assert judged.rejected.reason == Reason.BAD_TIMESTAMPS
    assert judged.rejected.detail == "the first picture is at 4556 s"


def test_a_file_of_which_no_picture_is_left_is_corrupt_and_leaves_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, shots(1.0), audio=False, **SIZE)
    facts = scanned(path, tmp_path).facts
    data = path.read_bytes()
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:start] + bytes(end - start) + data[end:])
    packed(tmp_path).unlink()
    video = Video(uri=path.as_uri(), video_id="a" * 16, content_id="a" * 64, facts=facts)
    scan = next(stage for stage in build_stages(Config()) if isinstance(stage, Scan))
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")
    scan.open(Workspace(scratch=tmp_path, answers=Memo(tmp_path), language=nowhere, vision=None))
    with pytest.raises(BadInputError) as caught:
        scan(video)
    assert caught.value.reason is Reason.CORRUPT
    assert list(packed(tmp_path).parent.iterdir()) == []


@pytest.mark.parametrize(
    ("bound", "problem"), [({"max_pictures": 9}, "too_long"), ({"max_hold_s": 0.05}, "bad_timestamps")]
)
def test_bounds_on_pictures_hold_while_they_are_decoded(
    bound: dict[str, float], problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, shots(1.0), audio=False, **SIZE)
    with pytest.raises(MediaError) as caught:
        scanned(path, tmp_path, probe=bound)
    assert caught.value.problem == problem


def test_the_same_film_is_packed_into_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, shots(1.5), audio=False, **SIZE)
    once = evidence_of(path, tmp_path)
    first = packed(tmp_path).read_bytes()
    assert evidence_of(path, tmp_path) == once
    assert packed(tmp_path).read_bytes() == first


def test_a_film_has_the_same_shots_and_scores_whatever_decodes_it(tmp_path: Path) -> None:
    """Without an NVIDIA card the processor decodes in its place."""
    path = tmp_path / "film.mp4"
    write_video(path, shots(2.2, 1.6), audio=False, **SIZE)
    assert evidence_of(path, tmp_path, decoder="cuda") == evidence_of(path, tmp_path)


def test_packed_frames_of_other_settings_are_not_taken_for_its_own(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_video(path, shots(1.5), audio=False, **SIZE)
    video = scanned(path, tmp_path)
    nowhere = Endpoint(base_url="http://127.0.0.1:9/v1", model="none")

    def scan(**settings: float) -> Scan:
        config = Config.model_validate({"scan": settings})
        stage = next(stage for stage in build_stages(config) if isinstance(stage, Scan))
        stage.workspace = Workspace(scratch=tmp_path, answers=Memo(tmp_path), language=nowhere, vision=None)
        return stage

    assert scan().has_packed(video)
    assert not scan(grid_fps=4).has_packed(video)
    packed(tmp_path).unlink()
    assert not scan().has_packed(video)


@pytest.mark.skipif("VIDEOAUTEUR_DATA" not in os.environ, reason="needs VIDEOAUTEUR_DATA")
@pytest.mark.parametrize("name", ["testvideo.mp4", "fades.mp4", "goldeneye-vfr-drop3.mp4"])
def test_cuts_of_scenedetects_own_videos(name: str, tmp_path: Path) -> None:
    folder = Path(os.environ["VIDEOAUTEUR_DATA"]) / "scenes"
    golden = json.loads((folder / "goldens" / f"{name}.AdaptiveDetector.default.json").read_text())
    with av.open(folder / name) as container:
        fps = container.streams.video[0].guessed_rate
    # Also where frames were dropped, they are numbered as if none were.
    assert fps is not None
    expected = [float(number / fps) for number in golden["cuts"]]
    assert cuts(evidence_of(folder / name, tmp_path, detector="adaptive")) == pytest.approx(expected)
    # Ours reports a fade as a transition, and begins the shot halfway through it.
    evidence = evidence_of(folder / name, tmp_path)
    for cut_s in expected:
        assert any(abs(shot_s - cut_s) < 0.05 for shot_s in cuts(evidence)) or any(
            one.start_s - 0.1 <= cut_s <= one.end_s + 0.1 for one in evidence.transitions
        )
