"""One tree, three layers of values, and a message that helps for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.curation.config import Config
from pipeline.platform.config import ConfigError, describe, leaves, load

FILE = """\
clip:
  min_s: 4
  max_s: 20
run:
  pools:
    media: {workers: 3}
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "curate.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def shown(path: str, text: str) -> str:
    """The line that ``describe`` wrote for a dotted path."""
    lines = iter(text.splitlines())
    for depth, key in enumerate(path.split(".")):
        line = next(line for line in lines if line.startswith("  " * depth + f"{key}:"))
    return line.strip()


def test_defaults_need_no_key_and_no_server() -> None:
    loaded = load(None, [], Config)
    assert loaded.config == Config()
    assert loaded.origins == {}
    assert loaded.config.language.base_url is None
    assert loaded.config.vision.base_url is None


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(written(tmp_path, "# nothing\n"), [], Config).config == Config()


def test_settings_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = written(tmp_path, FILE)
    loaded = load(file, ["clip.max_s=25", "clip.max_s=12", "match.sufficient_iou=null"], Config)
    clip = loaded.config.clip
    assert (clip.min_s, clip.max_s, clip.short_shots) == (4.0, 12.0, "join")
    assert loaded.config.match.sufficient_iou is None
    assert loaded.config.run.pools.media.workers == 3
    assert loaded.origins == {
        "clip.min_s": str(file),
        "clip.max_s": "--set",
        "match.sufficient_iou": "--set",
        "run.pools.media.workers": str(file),
    }


def test_a_section_set_as_a_whole_replaces_the_one_in_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, FILE)
    loaded = load(file, ["clip={guard_s: 0.5}", "run.pools.media={num_cpus: 1, workers: 2}"], Config)
    assert (loaded.config.clip.guard_s, loaded.config.clip.max_s) == (0.5, 30.0)
    text = describe(loaded)
    assert shown("clip.guard_s", text) == "guard_s: 0.5  # --set"
    assert shown("clip.max_s", text) == "max_s: 30.0  # default"
    assert shown("run.pools.media.workers", text) == "workers: 2  # --set"
    assert shown("run.pools.speech.workers", text) == "workers: null  # default"


@pytest.mark.parametrize(
    ("setting", "facts"),
    [
        ("clip.min_sec=3", ["clip.min_sec", "no such key", "nearest is clip.min_s"]),
        ("clp.min_s=3", ["clp", "no such key", "nearest is clip"]),
        ("run.pools.medja.workers=1", ["run.pools.medja", "nearest is run.pools.media"]),
        ("clip.min_s=abc", ["clip.min_s", "valid number", "'abc'"]),
        ("transcribe.threads=2.5", ["transcribe.threads", "valid integer", "2.5"]),
        ("refine.enabled=perhaps", ["refine.enabled", "valid boolean", "'perhaps'"]),
        ("transcribe.model=3", ["transcribe.model", "valid string", "3"]),
        ("clip.min_s={x: 3}", ["clip.min_s", "valid number"]),
        ("run.runner=rai", ["run.runner", "'ray' or 'local'", "'rai'"]),
        ("probe.max_duration_s=-1", ["probe.max_duration_s", "greater than 0", "-1"]),
        ("match.min_iou=1.5", ["match.min_iou", "less than or equal to 1", "1.5"]),
        ("match.min_iou=.nan", ["match.min_iou", "finite"]),
        ("probe.max_duration_s=.inf", ["probe.max_duration_s", "finite"]),
        ("run.pools.media.workers=0", ["run.pools.media.workers", "greater than or equal to 1"]),
        ("clip=3", ["clip", "is a section and takes keys", "3"]),
        ("run.pools=[1]", ["run.pools", "is a section and takes keys", "[1]"]),
        ("clip.min_s=[1", ["--set clip.min_s=[1"]),
        ("clip.min_s", ["--set clip.min_s", "expected a.b=value"]),
        ("=3", ["--set =3", "expected a.b=value"]),
        # Rules between keys.
        ("clip.min_s=20", ["clip", "max_s must be at least twice min_s"]),
        ("clip.guard_s=2.5", ["clip", "guard_s must be less than half of min_s"]),
        ("vision.base_url=http://x", ["vision", "base_url and model go together"]),
        ("language.model=x", ["language", "base_url and model go together"]),
    ],
)
def test_a_wrong_setting_is_refused_with_its_path(setting: str, facts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, [setting], Config)
    for fact in facts:
        assert fact in str(caught.value)


HOSTED = ["language.base_url=https://example.org/v1", "language.model=m", "budget.max_usd=20"]


def test_a_bound_on_money_needs_prices() -> None:
    with pytest.raises(ConfigError, match=r"^budget\.max_usd bounds nothing without prices"):
        load(None, HOSTED, Config)
    load(None, [*HOSTED, "language.output_price=0.6"], Config)
    load(None, HOSTED[2:], Config)


def test_a_key_below_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--set clip\.min_s\.x=3: min_s is a value, not a section"):
        load(None, ["clip.min_s=4", "clip.min_s.x=3"], Config)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, ["clip.min_sec=3", "match.min_iou=2", "scan=1"], Config)
    told = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert told == {"clip.min_sec", "match.min_iou", "scan"}


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("clip: [", "line 1"),
        ("- clip", "expected sections at the top"),
        ("just words", "expected sections at the top"),
        (b"clip: \xff\xfe", "decode"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(
    tmp_path: Path, text: str | bytes | None, fact: str
) -> None:
    file = tmp_path / "missing.yaml" if text is None else written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file, [], Config)
    assert str(caught.value).startswith(f"--config {file}: ")
    assert fact in str(caught.value)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("clip:\n", ["clip", "is a section"]),
        ("clip:\n  1: 2\n", ["clip.1", "string"]),
        ("clip:\n  min_s: fast\n", ["clip.min_s", "'fast'"]),
        ("clips:\n  min_s: 1\n", ["clips", "nearest is clip"]),
    ],
)
def test_a_wrong_key_in_a_file_is_refused_with_its_path(
    tmp_path: Path, text: str, facts: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), [], Config)
    for fact in facts:
        assert fact in str(caught.value)


def test_describe_shows_every_key_with_its_origin(tmp_path: Path) -> None:
    file = written(tmp_path, FILE)
    loaded = load(file, ["clip.min_s=3"], Config)
    text = describe(loaded)
    values = [line for line in text.splitlines() if not line.endswith(":")]
    assert len(values) == len(list(leaves(Config().model_dump())))
    assert all("  # " in line for line in values)
    assert shown("clip.min_s", text) == "min_s: 3.0  # --set"
    assert shown("clip.max_s", text) == f"max_s: 20.0  # {file}"
    assert shown("clip.guard_s", text) == "guard_s: 0.0  # default"
    assert shown("run.pools.media.workers", text) == f"workers: 3  # {file}"


@pytest.mark.parametrize(
    "model",
    ["base", "null", "3", "", "two words " * 30, "a: # b", "two\nlines", "é\u2028", "x'y\"z", "1e3"],
)
def test_what_describe_prints_reads_back_as_the_same_configuration(tmp_path: Path, model: str) -> None:
    given = written(tmp_path, yaml.safe_dump({"transcribe": {"model": model}}))
    loaded = load(given, ["run.error_budget=0.25", "match.sufficient_iou=null"], Config)
    again = load(written(tmp_path, describe(loaded)), [], Config)
    assert again.config == loaded.config
    assert again.config.transcribe.model == model
