"""Narratives and titles."""

from stages.narrate.stage import Narrate, NarrateSettings
from stages.narrate.title import title_of

__all__ = [
    "Narrate",
    "NarrateSettings",
    "title_of",
]
