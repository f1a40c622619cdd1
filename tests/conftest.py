"""Media with a known truth, made once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import pipeline  # noqa: F401 - first: it fixes the number of threads before numpy is loaded
from examples.drawing import moving_blobs
from examples.media import Scene, Truth, write_video

SENTENCES = (
    "Chop the onion and the carrot into small pieces.",
    "Stir the soup with a wooden spoon.",
    "Put the bread into the oven for ten minutes.",
)


@pytest.fixture(scope="session")
def narrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Three shots of six seconds, a sentence spoken over each."""
    path = tmp_path_factory.mktemp("media") / "Bread Soup.mp4"
    colours = ((200, 120, 60), (60, 140, 200), (120, 190, 80))
    scenes = [
        Scene(duration_s=6.0, picture=moving_blobs(seed, colour), sentence=sentence)
        for seed, (colour, sentence) in enumerate(zip(colours, SENTENCES, strict=True))
    ]
    return path, write_video(path, scenes, width_px=320, height_px=240, fps=15)


@pytest.fixture(scope="session")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    """Two shots of six seconds without a sound track."""
    path = tmp_path_factory.mktemp("media") / "wordless.mp4"
    scenes = [
        Scene(duration_s=6.0, picture=moving_blobs(seed, colour))
        for seed, colour in ((7, (90, 160, 120)), (8, (210, 170, 60)))
    ]
    return path, write_video(path, scenes, width_px=320, height_px=240, fps=15, audio=False)
