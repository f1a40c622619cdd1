"""The finished dataset: its tables, how they are written and read."""

SCRATCH = "_work"
"""Folder of OUTPUT with packed frames and other files that may be deleted between runs."""
RUN_STATE = "_run"
"""Folder of an OUTPUT in a bucket with the state of its run."""
