"""The chain as it is built: its order, and that each stage reads only what an earlier one writes."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from pipeline.curation.chain import build_stages, groups
from pipeline.curation.config import Config, PoolOptions, Pools
from pipeline.platform.config import load
from stages.base import Pool, Stage
from stages.records import Video

EVERYTHING = ("duplicates.drop=true", "relevance.topic=cooking")
GIVEN = {"uri", "video_id", "content_id", "identity", "passed"}
"""Fields of a video before the first stage."""
DERIVED = {"kept_clips": "clips", "kept_actions": "actions"}
"""Properties of a video by the field that they select from."""


def config(*settings: str) -> Config:
    return load(None, list(settings), Config).config


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            (),
            ["probe", "scan", "transcribe", "clip", "watermark", "refine", "match", "caption", "narrate"],
        ),
        (
            EVERYTHING,
            [
                "probe", "scan", "transcribe", "clip", "watermark", "duplicates", "refine", "relevance",
                "match", "caption", "clip_roles", "narrate",
            ],
        ),
    ],
    ids=["default", "everything"],
)  # fmt: skip
def test_order_of_the_stages(settings: tuple[str, ...], expected: list[str]) -> None:
    assert [stage.name for stage in build_stages(config(*settings))] == expected


def test_each_stage_reads_what_an_earlier_one_writes() -> None:
    known = set(GIVEN)
    for stage in build_stages(config(*EVERYTHING)):
        read = {DERIVED.get(name, name) for name in stage.reads}
        assert read <= known, f"{stage.name} reads {sorted(read - known)}, which no stage before it writes"
        known |= set(stage.writes)
    assert known | {"drops"} == {field.name for field in fields(Video)}


def test_no_field_is_written_twice_without_being_read() -> None:
    """A stage may replace a field only if it read it; otherwise it throws away another one's result."""
    written: set[str] = set()
    for stage in build_stages(config(*EVERYTHING)):
        again = written & set(stage.writes)
        assert again <= {DERIVED.get(name, name) for name in stage.reads}, stage.name
        written |= set(stage.writes)


ONE_WORKER = PoolOptions(workers=1)
FILES = ("probe", "scan", "transcribe", "clip", "watermark")
WORDS = ("refine", "match", "caption", "narrate")


@pytest.mark.parametrize(
    ("pools", "asks", "expected"),
    [
        (Pools(), False, [("media", FILES + WORDS)]),
        (Pools(), True, [("media", FILES), ("language", WORDS)]),
        (
            Pools(speech=PoolOptions(num_gpus=1)),
            False,
            [("media", FILES[:2]), ("speech", FILES[2:3]), ("media", FILES[3:] + WORDS)],
        ),
        (Pools(language=ONE_WORKER), False, [("media", FILES), ("language", WORDS)]),
        (Pools(**dict.fromkeys(get_args(Pool), ONE_WORKER)), False, [("media", FILES + WORDS)]),
    ],
)  # fmt: skip
def test_neighbours_that_ask_for_the_same_workers_share_them(
    pools: Pools, asks: bool, expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    made = groups(build_stages(config()), pools, asks=asks)
    assert [(group.pool, group.stages) for group in made] == expected


def test_a_stage_that_opens_the_file_must_name_its_content() -> None:
    with pytest.raises(TypeError, match="`reads` must name content_id"):

        class Loudness(Stage):
            name = "loudness"
            pool = "media"
            reads = ("facts",)
            reads_file = True
