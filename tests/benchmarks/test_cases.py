"""Every sample file ends as expected; needs the data folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import CHEAP, differences, expected_of, outcomes
from pipeline.cli.main import main

DATA = os.environ.get("VIDEOAUTEUR_DATA")


def test_differences_are_named_and_small_ones_are_none() -> None:
    seen = {
        "status": "kept", "reason": "", "clips": 3, "matches": 4,
        "cuts_s": [5.04, 10.08], "actions_s": [[0.5, 2.5]],
    }  # fmt: skip
    expected = {
        "status": "kept",
        "clips": "at least 3",
        "cuts_s": [5.042, 10.083],
        "actions_s": [[0.4, 2.6]],
    }
    assert list(differences(expected, seen)) == []
    assert list(differences({"status": "rejected", "clips": 4, "cuts_s": [5.042]}, seen)) == [
        "status kept, not rejected",
        "clips 3, not 4",
        "cuts_s [5.04, 10.08], not [5.042]",
    ]


def curated(files: list[Path], folder: Path) -> dict[str, dict[str, Any]]:
    """Outcomes of a run by file name."""
    listed = folder / "files.list"
    listed.write_text("\n".join(map(str, files)))
    settings = [word for setting in CHEAP for word in ("--set", setting)]
    assert main(["curate", str(listed), str(folder / "out"), *settings]) == 0
    return {found["name"]: found for found in outcomes(folder / "out")}


@pytest.mark.skipif(DATA is None, reason="VIDEOAUTEUR_DATA names no folder of sample files")
def test_hostile_files_are_rejected_with_a_reason_and_never_our_bug(tmp_path: Path) -> None:
    folder = Path(DATA or "") / "cases" / "hostile"
    seen = curated([path for path in folder.iterdir() if path.suffix != ".md"], tmp_path)
    assert {name: (found["status"], found["reason"]) for name, found in seen.items()} == {
        "picture_16000_px.mp4": ("rejected", "too_large"),
        "sound_1e5_s_before_zero.mkv": ("rejected", "no_speech"),
        "stream_appears_midway.ts": ("rejected", "no_audio"),
        "time_leaps_1e7_s.mkv": ("rejected", "bad_timestamps"),
        "unknown_audio_codec.mkv": ("rejected", "no_audio"),
    }


@pytest.mark.skipif(DATA is None, reason="VIDEOAUTEUR_DATA names no folder of sample files")
def test_odd_files_end_as_expected(tmp_path: Path) -> None:
    folder = Path(DATA or "") / "cases"
    expected = expected_of(folder)
    seen = curated([folder / name for name in expected], tmp_path)
    wrong = {name: list(differences(want, seen[name])) for name, want in expected.items()}
    assert {name: why for name, why in wrong.items() if why} == {}
