"""What director, generator and film hand to each other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a narrative.

    Attributes:
        action: short sentence in the present tense.
        caption: what is seen.
        state: raw visual state ``[tokens, width]``; None where it is not made yet.
    """

    action: str
    caption: str
    state: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A goal and its steps in order."""

    goal: str
    steps: tuple[Step, ...]


def prompt_of(action: str, caption: str) -> str:
    """The text of a step that conditions the generator: what is done, then what is seen."""
    return " ".join(dict.fromkeys(text.strip() for text in (action, caption) if text.strip()))
