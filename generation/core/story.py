"""The values that director, generator and film exchange."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a narrative.

    Attributes:
        action: short sentence in the present tense.
        caption: description of the picture.
        state: raw visual state ``[tokens, width]``; None until it is predicted.
    """

    action: str
    caption: str
    state: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A goal and its steps in order."""

    goal: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The training clip that a generated clip starts from.

    Attributes:
        share: part of the result that is the training clip, in [0, 1]; 1 shows it unchanged.
        distance: 1 - cosine of its standardised state and the planned one.
    """

    clip_id: str
    video_id: str
    share: float
    distance: float


def prompt_of(action: str, caption: str) -> str:
    """Return the text of a step that conditions the generator: its action, then its caption."""
    return " ".join(dict.fromkeys(text.strip() for text in (action, caption) if text.strip()))
