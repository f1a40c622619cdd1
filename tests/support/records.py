"""Records with defaults."""

from __future__ import annotations

import itertools
from typing import Any

from stages.records import Action, Clip, Evidence, Facts, Finding, Interval, OverlayKind


def file_facts(duration_s: float = 40.0, **others: Any) -> Facts:
    """Return the facts of a common file; ``others`` differ."""
    common = {"container": "mp4", "video_codec": "h264", "audio_codec": "aac", "title": "",
              "width_px": 640, "height_px": 360, "fps": 25.0, "rotation_deg": 0}  # fmt: skip
    return Facts(duration_s=duration_s, **{**common, **others})


def evidence(*edges_s: float, num_frames: int) -> Evidence:
    """Return the evidence of shots between these times, without packed frames."""
    shots = [Interval(start_s=start, end_s=end) for start, end in itertools.pairwise(edges_s)]
    return Evidence(
        shots=shots, frame_times_s=[], sharpness=[], exposure=[], motion=[], num_frames=num_frames
    )


def clip(index: int, start_s: float, end_s: float) -> Clip:
    return Clip(
        clip_id=f"v-c{index:04d}", clip_index=index, start_s=start_s, end_s=end_s,
        num_shots=1, sharpness=0.5, exposure=0.5, motion=0.01,
    )  # fmt: skip


def action(index: int, start_s: float, end_s: float) -> Action:
    return Action(
        action_id=f"v-a{index:04d}", start_s=start_s, end_s=end_s,
        text="Chop the leek.", asr_text="so chop the leek", confidence=0.9, source="llm",
    )  # fmt: skip


def found(score: float, text: str = "") -> Finding:
    """A corner bug of that score."""
    return Finding(kind=OverlayKind.CORNER_BUG, box=(0.8, 0.0, 1.0, 0.1), score=score, text=text)
