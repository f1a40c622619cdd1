"""Keys of results are those of the values, however the values came about."""

from __future__ import annotations

import pytest

from benchmarks.free_stages import free
from pipeline.curation.chain import build_stages
from pipeline.curation.config import Config
from pipeline.curation.results import fill, measured, memo_key
from stages.clip import drop_clip
from stages.packing import packed, unpacked
from stages.reasons import Reason
from tests.support.worker import VIDEO


@pytest.mark.parametrize("dropped", [0, 2])
def test_stored_json_gives_the_keys_of_its_values(dropped: int) -> None:
    chain = free(build_stages(Config()))
    video = VIDEO
    for stage in chain:
        filled = fill(stage, video, measured(stage, video, None))
        assert filled is not None
        video = stage.judge(filled)
        if stage.name == "clip":
            video = video.drop(
                *(drop_clip(clip, "clip", Reason.BLURRED, "for a test") for clip in video.clips[:dropped])
            )
    assert len(video.kept_clips) == len(video.clips) - dropped
    copied = unpacked(packed(video))
    assert [memo_key(stage, video) for stage in chain] == [memo_key(stage, copied) for stage in chain]
