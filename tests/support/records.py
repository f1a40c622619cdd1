"""Records with defaults."""

from __future__ import annotations

from stages.records import Action, Clip, Finding, OverlayKind


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
