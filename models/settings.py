"""The base of all configuration sections, and the types of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]


def word_for_false(word: str) -> BeforeValidator:
    """Accept ``false`` for a word such as ``off`` or ``no``, which YAML reads as ``false``."""
    return BeforeValidator(lambda value: word if value is False else value)


class Section(BaseModel):
    """A branch of a configuration tree; unknown keys, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Weights(Section):
    """A choice of weights; the kinds in ``in_folder`` are read from the folder ``path``."""

    in_folder: ClassVar[tuple[str, ...]] = ("pretrained",)
    kind: str
    path: Path | None = None

    @model_validator(mode="after")
    def _path_goes_with_kind(self) -> Weights:
        if (self.path is not None) != (self.kind in self.in_folder):
            raise ValueError(f"path: needed by kind {' or '.join(self.in_folder)}, and by no other")
        return self
