"""CookGen's statistics from the annotation file, and the ways to match that must agree."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cookgen

TINY = {
    "a": ("training", 60.0, [((0, 10), "chop one onion"), ((12, 32), "fry it in butter until brown")]),
    "b": ("training", 20.0, [((2, 8), "boil water")]),
    "c": ("validation", 90.0, [((5, 25), "mix flour and eggs"), ((25, 40), "bake")]),
}


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    database = {
        name: {
            "subset": part,
            "duration": duration_s,
            "annotations": [{"segment": segment, "sentence": sentence} for segment, sentence in steps],
        }
        for name, (part, duration_s, steps) in TINY.items()
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"database": database}))
    return path


def test_the_last_line_holds_the_figures(
    annotations: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["cookgen", str(annotations), "--pairs", "640", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", command)
    cookgen.main()
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = {
        "train_segments": 3, "train_mean_s": 12.0, "train_per_video": 1.5, "train_words_per_action": 3.67,
        "train_words_per_video": 5.5, "val_segments": 2, "val_mean_s": 17.5, "val_per_video": 2.0,
        "val_words_per_action": 2.5, "identity_matched": 5, "identity_tau_0.25_pairs": 5, "pairs": 640,
        "same_results": True,
    }  # fmt: skip
    assert {name: figures[name] for name in expected} == expected
    assert figures["pairs_per_s"] > 0
    assert 0 < figures["pairs_matched"] < 640


def test_random_cuts_keep_to_their_bounds_and_to_their_seed(annotations: Path) -> None:
    videos, _ = cookgen.read(annotations)
    cuts = cookgen.random_cuts(videos, 3)
    lengths = cuts["end_s"] - cuts["start_s"]
    assert lengths.between(5, 30).all()
    assert (cuts.groupby("video_id")["end_s"].max() <= videos.set_index("video_id")["duration_s"]).all()
    assert cuts.equals(cookgen.random_cuts(videos, 3))
    assert not cuts.equals(cookgen.random_cuts(videos, 4))


def test_made_up_videos_do_not_meet_on_the_axis() -> None:
    clips, actions = cookgen.made_up(64 * 50, 1)
    for items in (clips, actions):
        places = np.stack([items["start_s"], items["end_s"]]) + items["offset_s"].to_numpy()
        assert np.array_equal((places + cookgen.SPACING_S / 2) // cookgen.SPACING_S, [items["video"]] * 2)


@pytest.mark.skipif("VIDEOAUTEUR_DATA" not in os.environ, reason="needs VIDEOAUTEUR_DATA")
def test_the_published_statistics_follow_from_the_annotations() -> None:
    path = Path(os.environ["VIDEOAUTEUR_DATA"]) / "youcook2" / "youcookii_annotations_trainval.json"
    videos, segments = cookgen.read(path)
    figures = cookgen.statistics(videos, segments)
    assert {name: figures[name] for name in cookgen.PUBLISHED} == cookgen.PUBLISHED
    assert cookgen.identity_matched(segments) == len(segments) == 13_829
