"""Actions from the transcript."""

from stages.refine.stage import Refine, RefineSettings

__all__ = [
    "Refine",
    "RefineSettings",
]
