"""The evidence for overlays, on generated frames of known content."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.scan.overlay import OverlayEvidence, OverlayRegion

Frame = NDArray[np.uint8]
Box = tuple[float, float, float, float]

HEIGHT, WIDTH = 180, 320
LOGO: Box = (250 / WIDTH, 10 / HEIGHT, 306 / WIDTH, 34 / HEIGHT)


def picture(rng: np.random.Generator) -> Frame:
    """A scene: discs and slabs of random place and brightness, a little blurred."""
    image = np.full((HEIGHT, WIDTH), rng.integers(40, 200), np.uint8)
    for _ in range(25):
        x, y = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        size, gray = int(rng.integers(8, 50)), int(rng.integers(20, 235))
        if rng.random() < 0.5:
            cv2.circle(image, (x, y), size // 2, gray, -1)
        else:
            corners = cv2.boxPoints(((x, y), (size, size * 1.5), float(rng.uniform(0, 90))))
            cv2.fillPoly(image, [corners.astype(np.int32)], gray)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8)


def shots(rng: np.random.Generator, count: int, frames_each: int = 2) -> list[list[Frame]]:
    """Shots of still pictures with camera noise."""
    return [
        [noisy(rng, image) for _ in range(frames_each)] for image in (picture(rng) for _ in range(count))
    ]


def noisy(rng: np.random.Generator, image: Frame) -> Frame:
    noise = rng.normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def logo_mask() -> NDArray[np.float32]:
    """Letters that fill the box LOGO."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(mask, "Cook", (250, 29), cv2.FONT_HERSHEY_DUPLEX, 0.8, 255, 2, cv2.LINE_AA)
    mask[:10] = mask[34:] = 0
    mask[:, 306:] = 0
    return mask.astype(np.float32) / np.float32(255)


def stamped(frame: Frame, *, gray: int = 255, opacity: float = 1.0) -> Frame:
    alpha = logo_mask() * opacity
    return np.asarray(frame * (1 - alpha) + gray * alpha, np.uint8)


def lettered(frame: Frame, text: str) -> Frame:
    """A subtitle at the bottom: white with a black rim, centred."""
    face, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (width, _), _ = cv2.getTextSize(text, face, scale, 1)
    place = ((WIDTH - width) // 2, HEIGHT - 14)
    frame = frame.copy()
    cv2.putText(frame, text, place, face, scale, 0, 3, cv2.LINE_AA)
    cv2.putText(frame, text, place, face, scale, 255, 1, cv2.LINE_AA)
    return frame


def found(video: list[list[Frame]], *, tell_cuts: bool = True) -> list[OverlayRegion]:
    evidence = OverlayEvidence()
    for shot in video:
        for i, frame in enumerate(shot):
            evidence.add(frame, new_shot=tell_cuts and i == 0)
    return evidence.finish()


def best_score(regions: list[OverlayRegion]) -> float:
    return max((region.score for region in regions), default=0.0)


def iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("tell_cuts", [True, False])
@pytest.mark.parametrize("opacity", [1.0, 0.35])
def test_finds_a_logo_over_changing_shots(opacity: float, tell_cuts: bool) -> None:
    rng = np.random.default_rng(1)
    video = [[stamped(frame, opacity=opacity) for frame in shot] for shot in shots(rng, 12)]

    regions = found(video, tell_cuts=tell_cuts)

    assert regions[0].score > 0.5
    assert iou(regions[0].box, LOGO) > 0.6
    assert regions[0].coverage > 0.6
    assert regions[0].backgrounds > 4
    assert all(region.score < 0.3 for region in regions[1:])


def test_finds_a_grey_logo_that_is_darker_and_brighter_than_its_background() -> None:
    rng = np.random.default_rng(2)
    video = shots(rng, 16)
    for i, shot in enumerate(video):
        for frame in shot:
            frame[:60, 200:] = frame[:60, 200:] // 8 + (20 if i % 2 else 200)
    video = [[stamped(frame, gray=120) for frame in shot] for shot in video]

    regions = found(video)

    assert regions[0].score > 0.5
    assert iou(regions[0].box, LOGO) > 0.6


def test_finds_a_logo_over_slats_that_move() -> None:
    """Their edges always lie along the same axis; only their direction changes."""
    rng = np.random.default_rng(14)
    rows = np.arange(HEIGHT)[:, None] + np.zeros(WIDTH)
    slats = [(110 + 40 * np.sin(rows * 0.6 + phase)).astype(np.uint8) for phase in range(30)]
    frames = [stamped(noisy(rng, picture)) for picture in slats]

    regions = found([frames], tell_cuts=False)

    assert regions[0].score > 0.5
    assert iou(regions[0].box, LOGO) > 0.6


def test_a_long_quiet_shot_does_not_outweigh_the_others() -> None:
    rng = np.random.default_rng(15)
    video = shots(rng, 1, frames_each=60) + shots(rng, 9)
    video = [[stamped(frame) for frame in shot] for shot in video]

    regions = found(video, tell_cuts=False)

    assert regions[0].score > 0.9
    assert regions[0].backgrounds > 4


def test_the_letters_of_a_line_are_one_region() -> None:
    rng = np.random.default_rng(16)
    video = shots(rng, 12)
    for frame in (frame for shot in video for frame in shot):
        for i, letter in enumerate("COOKING"):
            cv2.putText(frame, letter, (40 + 14 * i, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 2)

    (line,) = found(video)

    assert line.box[2] - line.box[0] > 80 / WIDTH


def test_tells_how_long_an_overlay_stays() -> None:
    rng = np.random.default_rng(3)
    video = shots(rng, 15)
    always = [[stamped(frame) for frame in shot] for shot in video]

    whole = found(always)[0]
    partly = found(always[:11] + video[11:])[0]

    assert iou(partly.box, LOGO) > 0.6
    assert partly.coverage < whole.coverage - 0.1
    assert partly.score <= whole.score


def test_clean_shots_show_nothing() -> None:
    assert found(shots(np.random.default_rng(4), 12)) == []


@pytest.mark.parametrize("tell_cuts", [True, False])
def test_a_locked_off_camera_is_no_evidence(tell_cuts: bool) -> None:
    """Jump cuts and a moving hand change nothing: the logo may be part of the kitchen."""
    rng = np.random.default_rng(5)
    scene = stamped(picture(rng))
    video = []
    for i in range(12):
        frame = noisy(rng, scene)
        cv2.circle(frame, (60 + 15 * i, 110), 20, 230, -1)
        video.append([frame])

    assert best_score(found(video, tell_cuts=tell_cuts)) < 0.2


def test_two_cameras_that_take_turns_are_little_evidence() -> None:
    rng = np.random.default_rng(6)
    cameras = [picture(rng), picture(rng)]
    turns = [[noisy(rng, cameras[i % 2]) for _ in range(2)] for i in range(20)]

    assert best_score(found(turns)) < 0.3


def test_a_moving_camera_sets_an_overlay_apart() -> None:
    """One shot without cuts: a pan over a wide scene."""
    rng = np.random.default_rng(7)
    scene = np.hstack([picture(rng) for _ in range(3)])
    views = [scene[:, 20 * i : 20 * i + WIDTH] for i in range(30)]

    clean = found([[noisy(rng, view) for view in views]], tell_cuts=False)
    marked = found([[stamped(noisy(rng, view)) for view in views]], tell_cuts=False)

    assert best_score(clean) < 0.3
    assert marked[0].score > 0.5
    assert iou(marked[0].box, LOGO) > 0.6


def test_changing_subtitles_are_no_overlay() -> None:
    rng = np.random.default_rng(8)
    lines = [
        "chop the onion", "now fry it in oil", "until golden", "add two cups of stock", "stir",
        "let it rest for an hour", "then season", "serve with rice", "and a bit of lemon",
        "cover the pan", "bake at low heat", "enjoy your meal",
    ]  # fmt: skip
    video = shots(rng, len(lines))

    changing = [[lettered(f, text) for f in shot] for shot, text in zip(video, lines, strict=True)]
    constant = [[lettered(f, "www.cook.example") for f in shot] for shot in video]

    assert best_score(found(changing)) < 0.5
    assert best_score(found(constant)) > 0.9


@pytest.mark.parametrize(("rows", "columns"), [(24, 0), (0, 40), (24, 40)])
def test_bars_are_no_overlay(rows: int, columns: int) -> None:
    """Letterbox, pillarbox and both; a logo inside the picture is found all the same."""
    rng = np.random.default_rng(9)
    inside = np.s_[rows : HEIGHT - rows, columns : WIDTH - columns]
    clean, marked = [], []
    for shot in shots(rng, 12):
        boxed = np.full((HEIGHT, WIDTH), 16, np.uint8)
        boxed[inside] = shot[0][inside]
        clean.append([boxed])
        place = (columns + 20, rows + 30)
        marked.append([cv2.putText(boxed.copy(), "TV", place, cv2.FONT_HERSHEY_DUPLEX, 0.8, 255, 2)])

    assert best_score(found(clean)) < 0.2
    assert best_score(found(marked)) > 0.5


def test_black_frames_between_shots_take_nothing_away() -> None:
    rng = np.random.default_rng(10)
    video = [[stamped(frame) for frame in shot] for shot in shots(rng, 10)]
    black: list[list[Frame]] = [[np.full((HEIGHT, WIDTH), 16, np.uint8)]]

    faded = [part for shot in video for part in ([shot], black)]

    assert found([shot for part in faded for shot in part]) == found(video)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_frames_are_no_evidence(count: int) -> None:
    frames = [stamped(picture(np.random.default_rng(i))) for i in range(count)]

    assert best_score(found([[frame] for frame in frames])) < 0.5


def test_frames_without_edges_are_no_evidence() -> None:
    assert found([[np.full((HEIGHT, WIDTH), gray, np.uint8)] for gray in (0, 90, 255)]) == []


def test_boxes_lie_in_the_picture_and_come_strongest_first() -> None:
    rng = np.random.default_rng(11)
    video = [[lettered(stamped(f), "cook.example") for f in shot] for shot in shots(rng, 12)]

    regions = found(video)

    assert len(regions) >= 2
    assert [r.score for r in regions] == sorted((r.score for r in regions), reverse=True)
    for x0, y0, x1, y1 in (region.box for region in regions):
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1


def test_minimum_score_filters() -> None:
    rng = np.random.default_rng(12)
    strict, lenient = OverlayEvidence(min_score=1.0), OverlayEvidence(min_score=0.0)
    for shot in shots(rng, 4):
        for evidence in (strict, lenient):
            evidence.add(stamped(shot[0]), new_shot=True)

    assert strict.finish() == []
    assert lenient.finish()


def test_finishing_twice_tells_the_same() -> None:
    evidence = OverlayEvidence()
    for shot in shots(np.random.default_rng(13), 6):
        evidence.add(stamped(shot[0]), new_shot=False)

    assert evidence.finish() == evidence.finish()


def test_frames_of_another_size_are_refused() -> None:
    evidence = OverlayEvidence()
    evidence.add(np.zeros((HEIGHT, WIDTH), np.uint8), new_shot=False)

    with pytest.raises(ValueError, match="one size"):
        evidence.add(np.zeros((WIDTH, HEIGHT), np.uint8), new_shot=False)


def test_colour_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="grey frame"):
        OverlayEvidence().add(np.zeros((HEIGHT, WIDTH, 3), np.uint8), new_shot=False)
