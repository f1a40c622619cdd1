"""Regions that persist while the scene changes, on generated frames of known content."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stages.watermark.persistence import Region, leading, most_eigenvalue, persistent_regions, views

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


def found(video: list[list[Frame]]) -> list[Region]:
    fields, _ = views([frame for shot in video for frame in shot])
    return persistent_regions(fields)


def best_excess(regions: list[Region]) -> float:
    return max((region.excess for region in regions), default=0.0)


def iou(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("opacity", [1.0, 0.35])
def test_finds_a_logo_over_changing_shots(opacity: float) -> None:
    rng = np.random.default_rng(1)
    video = [[stamped(frame, opacity=opacity) for frame in shot] for shot in shots(rng, 12)]

    regions = found(video)

    assert regions[0].excess > 0.26
    assert iou(regions[0].box, LOGO) > 0.6
    assert regions[0].chance < 0.25
    assert all(region.excess < 0.2 for region in regions[1:])


def test_finds_a_grey_logo_that_is_darker_and_brighter_than_its_background() -> None:
    rng = np.random.default_rng(2)
    video = shots(rng, 16)
    for i, shot in enumerate(video):
        for frame in shot:
            frame[:60, 200:] = frame[:60, 200:] // 8 + (20 if i % 2 else 200)
    video = [[stamped(frame, gray=120) for frame in shot] for shot in video]

    regions = found(video)

    assert regions[0].excess > 0.26
    assert iou(regions[0].box, LOGO) > 0.6


def test_finds_a_logo_over_slats_that_move() -> None:
    """Their edges always lie along the same axis; only their direction changes."""
    rng = np.random.default_rng(14)
    rows = np.arange(HEIGHT)[:, None] + np.zeros(WIDTH)
    slats = [(110 + 40 * np.sin(rows * 0.6 + phase)).astype(np.uint8) for phase in range(30)]
    frames = [stamped(noisy(rng, picture)) for picture in slats]

    regions = found([frames])

    assert regions[0].excess > 0.26
    assert iou(regions[0].box, LOGO) > 0.6


def test_a_long_quiet_shot_does_not_outweigh_the_others() -> None:
    rng = np.random.default_rng(15)
    video = shots(rng, 1, frames_each=60) + shots(rng, 9)
    video = [[stamped(frame) for frame in shot] for shot in video]

    regions = found(video)

    assert regions[0].excess > 0.35
    assert regions[0].chance < 0.25


def test_the_letters_of_a_line_are_one_region() -> None:
    rng = np.random.default_rng(16)
    video = shots(rng, 12)
    for frame in (frame for shot in video for frame in shot):
        for i, letter in enumerate("COOKING"):
            cv2.putText(frame, letter, (40 + 14 * i, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 2)

    line = found(video)[0]

    assert line.box[2] - line.box[0] > 80 / WIDTH


@pytest.mark.parametrize("late", [True, False], ids=["late", "blinking"])
def test_an_overlay_of_some_views_only_is_found_with_the_views_that_show_it(late: bool) -> None:
    rng = np.random.default_rng(3)
    shown = [number >= 8 if late else number % 2 == 0 for number in range(16)]
    video = [
        [stamped(frame) if there else frame for frame in shot]
        for shot, there in zip(shots(rng, 16), shown, strict=True)
    ]

    best = found(video)[0]

    assert best.excess > 0.26
    assert iou(best.box, LOGO) > 0.6
    assert [bool(weight > 0) for weight in best.weights] == shown


def test_clean_shots_show_nothing() -> None:
    assert best_excess(found(shots(np.random.default_rng(4), 12))) < 0.1


def test_a_locked_off_camera_is_no_evidence() -> None:
    """Jump cuts and a moving hand change nothing: the logo may be part of the kitchen."""
    rng = np.random.default_rng(5)
    scene = stamped(picture(rng))
    video = []
    for i in range(12):
        frame = noisy(rng, scene)
        cv2.circle(frame, (60 + 15 * i, 110), 20, 230, -1)
        video.append([frame])

    assert best_excess(found(video)) < 0.19


def test_two_cameras_that_take_turns_are_little_evidence() -> None:
    rng = np.random.default_rng(6)
    cameras = [picture(rng), picture(rng)]
    turns = [[noisy(rng, cameras[i % 2]) for _ in range(2)] for i in range(20)]

    assert best_excess(found(turns)) < 0.22


def test_a_moving_camera_sets_an_overlay_apart() -> None:
    """One shot without cuts: a pan over a wide scene."""
    rng = np.random.default_rng(7)
    scene = np.hstack([picture(rng) for _ in range(3)])
    views = [scene[:, 20 * i : 20 * i + WIDTH] for i in range(30)]

    clean = found([[noisy(rng, view) for view in views]])
    marked = found([[stamped(noisy(rng, view)) for view in views]])

    assert best_excess(clean) < 0.22
    assert marked[0].excess > 0.26
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

    assert best_excess(found(changing)) < 0.26
    assert best_excess(found(constant)) > 0.35


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

    assert best_excess(found(clean)) < 0.19
    assert best_excess(found(marked)) > 0.26


def test_black_frames_between_shots_take_nothing_away() -> None:
    rng = np.random.default_rng(10)
    video = [[stamped(frame) for frame in shot] for shot in shots(rng, 10)]
    black: list[list[Frame]] = [[np.full((HEIGHT, WIDTH), 16, np.uint8)]]

    faded = [part for shot in video for part in ([shot], black)]

    plain = found(video)
    assert [region.box for region in found([shot for part in faded for shot in part])] == [
        region.box for region in plain
    ]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_frames_are_no_evidence(count: int) -> None:
    frames = [stamped(picture(np.random.default_rng(i))) for i in range(count)]

    assert best_excess(found([[frame] for frame in frames])) < 0.26


def test_frames_without_edges_are_no_evidence() -> None:
    assert found([[np.full((HEIGHT, WIDTH), gray, np.uint8)] for gray in (0, 90, 255)]) == []


def test_boxes_lie_in_the_picture_and_come_strongest_first() -> None:
    rng = np.random.default_rng(11)
    video = [[lettered(stamped(f), "cook.example") for f in shot] for shot in shots(rng, 12)]

    regions = found(video)

    assert len(regions) >= 2
    assert [r.excess for r in regions] == sorted((r.excess for r in regions), reverse=True)
    for x0, y0, x1, y1 in (region.box for region in regions):
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1


def test_no_leading_eigenvalue_is_above_its_bound() -> None:
    matrices = linked_views(40, share=0.2)
    bound = most_eigenvalue(matrices)
    assert (np.linalg.eigvalsh(matrices)[:, -1] <= bound + 1e-4).all()
    # It is of use: no row sum bounds so well.
    assert bound.sum() < 0.9 * matrices.sum(axis=2).max(axis=1).sum()


def test_leading_eigenvectors_come_in_the_order_of_their_values() -> None:
    matrices = linked_views(100, share=0.4)
    values, vectors = np.linalg.eigh(matrices)
    order = np.argsort(-values[:, -1])
    found = list(leading(matrices))
    assert [value for value, _ in found] == values[order, -1].tolist()
    assert all((vector == vectors[n, :, -1]).all() for n, (_, vector) in zip(order, found, strict=True))


def linked_views(count: int, share: float) -> NDArray[np.float32]:
    """Symmetric matrices ``[count, 12, 12]`` of which a share of the entries is not 0."""
    rng = np.random.default_rng(5)
    half = rng.random((count, 12, 12)).astype(np.float32) * (rng.random((count, 12, 12)) < share)
    return np.maximum(half, half.transpose(0, 2, 1)).astype(np.float32)
