"""Words, clips and seconds, counted over tables that were written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.curation.ingest import Source
from pipeline.curation.rows import rows_of
from pipeline.dataset.tables import write_tables
from pipeline.report import text_statistics as text_statistics_module
from pipeline.report.text_statistics import text_statistics
from stages.records import Action, Caption, Clip, Match, Narrative, Step, Video


def video_of(name: str, lengths_s: tuple[float, ...]) -> Video:
    """A video with clips of these lengths; each has an action of two words and a caption of three."""
    clips = [
        Clip(clip_id=f"{name}c{n}", clip_index=n, start_s=100.0 * n, end_s=100.0 * n + length_s,
             num_shots=1, sharpness=0.5, exposure=0.5, motion=0.1)
        for n, length_s in enumerate(lengths_s)
    ]  # fmt: skip
    actions = [
        Action(action_id=f"{name}a{n}", start_s=1.0, end_s=2.0, text=text, asr_text="", confidence=1.0,
               source="llm")
        for n, text in enumerate([*["Stir soup."] * len(clips), "Nobody sees  what is done."])
    ]  # fmt: skip
    steps = [
        Step(step_index=n, clip_id=clip.clip_id, action_id=f"{name}a{n}", start_s=clip.start_s,
             end_s=clip.end_s, action="Stir soup.", caption="A red\npot.", repeats=0 if n else None)
        for n, clip in enumerate(clips)
    ]  # fmt: skip
    return Video(
        uri=f"file:///{name}", video_id=name, content_id=name, clips=clips, actions=actions,
        matches=[Match(clip_id=s.clip_id, action_id=str(s.action_id), iou=1.0, start_diff_s=0.0, rule="iou")
                 for s in steps],
        captions=[Caption(clip_id=clip.clip_id, text="A red\npot.", model="m", frame_times_s=[])
                  for clip in clips],
        narrative=Narrative(title="", steps=steps, integrity=0.5),
    )  # fmt: skip


def statistics(folder: Path, *videos: Video) -> dict[str, float | int | None]:
    rows = [rows_of(Source(uri=video.uri, content_id=video.content_id), video) for video in videos]
    write_tables(folder, rows, max_shard=10**8, max_row_group=10**8)
    return text_statistics(folder)


def test_words_clips_and_seconds(tmp_path: Path) -> None:
    found = statistics(tmp_path, video_of("a", (5.0, 10.0, 12.0)), video_of("b", (9.0,)))
    assert found == {
        # Four times two words, and five in each action that no clip shows.
        "words_per_action": 3.0, "words_per_caption": 3.0,
        "words_per_video": 10.0, "clips_per_video": 2.0, "mean_clip_s": 9.0,
        "mean_integrity": 0.5, "repeated_steps": 2,
    }  # fmt: skip


def test_nothing_has_no_mean(tmp_path: Path) -> None:
    found = statistics(tmp_path)
    assert found.pop("repeated_steps") == 0
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), (" \t\n", 0), ("a", 1), (" a  b\r\nc ", 3), ("日本\u3000語", 1), (None, 0)],
)
def test_words_stand_between_white_space(
    monkeypatch: pytest.MonkeyPatch, text: str | None, words: int
) -> None:
    monkeypatch.setattr(text_statistics_module, "PIECE_TEXTS", 2)
    assert text_statistics_module._words(pa.array([text, "two words", text], pa.string())) == 2 * words + 2
