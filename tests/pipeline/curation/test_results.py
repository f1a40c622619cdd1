"""Keys of results are those of the values, however the values came about."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

import pytest
from pydantic import TypeAdapter

from benchmarks.free_stages import free
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.curation.results import measured, memo_key, read
from pipeline.platform.config import load
from stages.base import Pool, Stage, field_schema
from stages.clip import drop_clip
from stages.packing import packed, unpacked
from stages.reasons import Reason
from stages.records import Drop, Video
from stages.transcribe import Transcribe, TranscribeSettings
from tests.support.records import file_facts
from tests.support.worker import VIDEO


@pytest.mark.parametrize("dropped", [0, 2])
def test_stored_json_gives_the_keys_of_its_values(dropped: int) -> None:
    chain = free(build_stages(Config()))
    video = VIDEO
    for stage in chain:
        stored = read(stage, measured(stage, video, None).stored())
        assert stored is not None and stored.texts.keys() == set(stage.writes)
        video = stage.judge(stored.filled(video))
        if stage.name == "clip":
            video = video.drop(
                *(drop_clip(clip, "clip", Reason.BLURRED, "for a test") for clip in video.clips[:dropped])
            )
    assert len(video.kept_clips) == len(video.clips) - dropped
    copied = unpacked(packed(video))
    assert [memo_key(stage, video) for stage in chain] == [memo_key(stage, copied) for stage in chain]


@pytest.mark.parametrize("facts", [file_facts(40), asdict(file_facts(40))])
def test_texts_are_those_of_the_values_that_are_read_back(facts: object) -> None:
    """A stage may give a whole number for a field of fractions, and earlier releases stored it so."""

    class Cut(Stage):
        name: ClassVar[str] = "cut"
        pool: ClassVar[Pool] = "media"
        writes = ("facts",)

        def measure(self, video: Video) -> Video:
            return video.with_results(facts=facts)

    result = measured(Cut(), VIDEO, None)
    assert b'"duration_s":40.0' in result.texts["facts"]
    assert result.values == {"facts": file_facts(40)}
    earlier = result.stored().replace('"form":1,', "").replace("40.0", "40")
    for stored, texts in ((result.stored(), result.texts), (earlier, {})):
        found = read(Cut(), stored)
        assert found is not None and (found.values, found.texts) == (result.values, texts)
        filled = found.filled(VIDEO)
        assert memo_key(Transcribe(TranscribeSettings()), filled) == memo_key(
            Transcribe(TranscribeSettings()), unpacked(packed(filled))
        )


def test_no_number_of_a_result_may_be_null() -> None:
    """Infinity and NaN become null on the way to the memo, and are found by that."""

    def nullable(schema: object) -> bool:
        if isinstance(schema, dict):
            kinds = {kind.get("type") for kind in schema.get("anyOf", ())}
            return {"number", "null"} <= kinds or any(map(nullable, schema.values()))
        return isinstance(schema, list) and any(map(nullable, schema))

    stages = build_stages(load(None, ["duplicates.drop=true", "relevance.topic=cooking"], Config).config)
    assert not [name for stage in stages for name in stage.writes if nullable(field_schema(name))]
    assert nullable(TypeAdapter(Drop).json_schema()), "as the times of a drop are"
