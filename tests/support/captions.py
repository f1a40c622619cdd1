"""Small captioned datasets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.curation.ingest import Source
from pipeline.curation.rows import rows_of
from pipeline.dataset.tables import write_tables
from stages.frames import FramePacker, encoded, packed_frames
from stages.records import Action, Caption, Clip, Match, Video, Watermark
from tests.support.chat import Reply, completion
from tests.support.ratings import ratings_file
from tests.support.records import file_facts

FPS, SIDE_PX = 4, 64
CLIP_S = 4.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """One clip: its caption, and what is said over it and written in it."""

    caption: str
    action: str = ""
    screen: tuple[str, ...] = ()
    frames_s: tuple[float, ...] | None = None


Story = dict[str, Sequence[Told]]


def write_dataset(folder: Path, stories: Story, *, media: Path | None = None) -> Path:
    """An OUTPUT of ``curate`` through its own tables; the pictures of a clip are of its ``level``."""
    media = media or folder / "media"
    folder.mkdir(exist_ok=True)
    rows = []
    for letter, told in stories.items():
        content = letter * 64
        path = media / f"{letter}.mp4"
        video = _video(path, content, told)
        if not path.is_file():
            _film(path, len(told))
        _pack(packed_frames(folder / "_work", video.video_id), len(told))
        rows.append(rows_of(Source(uri=video.uri, content_id=content), video))
    write_tables(folder, rows, max_shard=10**9, max_row_group=10**9)
    return folder


def _video(path: Path, content: str, told: Sequence[Told]) -> Video:
    name = content[:16]
    clips, captions, actions, matches, marks = [], [], [], [], []
    for at, each in enumerate(told):
        clip_id, start_s = f"{name}-c{at}", at * CLIP_S
        times = (start_s + 0.5, start_s + 2.5) if each.frames_s is None else each.frames_s
        span = {"start_s": start_s, "end_s": start_s + CLIP_S}
        clips.append(
            Clip(clip_id=clip_id, clip_index=at, num_shots=1, sharpness=1, exposure=1, motion=1, **span)
        )
        captions.append(Caption(clip_id=clip_id, text=each.caption, model="secret", frame_times_s=[*times]))
        marks.append(Watermark(clip_id=clip_id, findings=[], screen_text=[*each.screen]))
        if each.action:
            action_id = f"{name}-a{at}"
            actions.append(
                Action(
                    action_id=action_id, text=each.action, asr_text="", confidence=1, source="llm", **span
                )
            )
            matches.append(Match(clip_id=clip_id, action_id=action_id, iou=1, start_diff_s=0, rule="start"))
    facts = file_facts(CLIP_S * len(told), width_px=SIDE_PX, height_px=SIDE_PX, fps=FPS, audio_codec=None)
    return Video(
        uri=path.resolve().as_uri(), video_id=name, content_id=content, facts=facts, clips=clips,
        actions=actions, matches=matches, captions=captions, watermarks=marks,
    )  # fmt: skip


def level(clip: int) -> int:
    return 20 * (clip + 1)


def _film(path: Path, clips: int) -> None:
    path.parent.mkdir(exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "5"})
        stream.width = stream.height = SIDE_PX
        stream.pix_fmt = "yuv420p"
        for number in range(int(clips * CLIP_S) * FPS):
            image = np.full((SIDE_PX, SIDE_PX, 3), level(int(number / FPS / CLIP_S)), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def _pack(path: Path, clips: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FramePacker(path) as packer:
        for half_seconds in range(int(clips * CLIP_S * 2)):
            grey = level(int(half_seconds / 2 / CLIP_S))
            # Blue tells packed pictures from those of the video.
            image = np.full((SIDE_PX, SIDE_PX, 3), (255, grey, grey), np.uint8)
            packer.add(half_seconds / 2, encoded(image, 95))


def scored(score: object, reason: object = "So.") -> Reply:
    return completion(json.dumps({"reason": reason, "score": score}))


def caption_of(request: dict[str, Any]) -> str:
    caption: str = json.loads(request["messages"][1]["content"][-1]["text"])["caption"]
    return caption


def by_caption(scores: dict[str, int]) -> Callable[[dict[str, Any]], Reply]:
    return lambda request: scored(scores[caption_of(request)])


def grey(of: int) -> Any:
    return pytest.approx((level(of),) * 3, abs=6)


def marks(folder: Path, rater: str, by_caption: dict[tuple[str, str], tuple[int, int]]) -> Path:
    """A file as the sheet saves it: (action, object) by dataset and clip."""
    key = json.loads((folder / "key.json").read_text())
    found = {
        code: dict(zip(("action", "object"), by_caption[item["dataset"], item["clip_id"]], strict=True))
        for code, item in key["items"].items()
        if (item["dataset"], item["clip_id"]) in by_caption
    }
    return ratings_file(folder, rater, found)
