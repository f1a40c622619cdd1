"""The values that flow: interval arithmetic, what is kept, and the way between processes."""

from __future__ import annotations

import msgspec
import pytest

from stages.packing import packed, unpacked
from stages.reasons import Kind, Reason
from stages.records import Drop, Interval, Video
from tests.support.videos import full_video


@pytest.mark.parametrize(
    ("a", "b", "overlap_s", "iou"),
    [
        ((0, 4), (0, 4), 4, 1.0),
        ((0, 4), (2, 6), 2, 1 / 3),
        ((0, 8), (2, 4), 2, 0.25),
        ((0, 4), (4, 8), 0, 0.0),
        ((0, 1), (5, 9), 0, 0.0),
        ((3, 3), (0, 6), 0, 0.0),
        ((3, 3), (3, 3), 0, 0.0),
    ],
    ids=["same", "part", "inside", "touching", "apart", "point-inside", "points"],
)
def test_overlap_and_iou_do_not_depend_on_the_order(
    a: tuple[float, float], b: tuple[float, float], overlap_s: float, iou: float
) -> None:
    one, other = (Interval(start_s=start, end_s=end) for start, end in (a, b))
    for first, second in ((one, other), (other, one)):
        assert first.overlap_s(second) == overlap_s
        assert first.iou(second) == pytest.approx(iou)


def test_what_is_dropped_is_no_longer_kept_but_still_there() -> None:
    video = full_video()
    assert [kept.clip_id for kept in video.kept_clips] == ["v-c0000"]
    # A clip's drop says nothing about an action of the same name.
    other = video.drop(Drop(kind=Kind.ACTION, stage="refine", reason=Reason.NOT_AN_ACTION, detail="",
                            item_id="v-a0001"))  # fmt: skip
    assert [kept.action_id for kept in other.kept_actions] == ["v-a0000"]
    assert [kept.clip_id for kept in other.kept_clips] == ["v-c0000"]
    assert len(other.clips) == len(other.actions) == 2
    assert [drop.reason for drop in other.drops] == [Reason.STILL, Reason.NOT_AN_ACTION]
    assert video.kept_actions == video.actions, "a record never changes under its holder"


def test_a_rejected_video_names_the_stage_that_gave_it_up_first() -> None:
    video = full_video()
    assert video.rejected is None
    video = video.reject("match", Reason.NO_MATCH, "none").reject("narrate", Reason.TOO_FEW_STEPS, "0")
    assert video.rejected == Drop(
        kind=Kind.FILE, stage="match", reason=Reason.NO_MATCH, detail="none", item_id=None
    )


def test_a_video_comes_back_between_processes_as_it_went() -> None:
    for video in (full_video(), Video(uri="file:///a", video_id="0" * 16, content_id="0" * 64)):
        assert unpacked(packed(video)) == video


@pytest.mark.parametrize("bad", ["because", None, 3])
def test_a_reason_outside_the_closed_set_is_refused(bad: object) -> None:
    fields = msgspec.msgpack.decode(packed(full_video()))
    fields["drops"][0]["reason"] = bad
    with pytest.raises(msgspec.ValidationError, match="reason"):
        unpacked(msgspec.msgpack.encode(fields))
