"""The job around the stages: configuration, memo, runners, tables, report, command line."""

from __future__ import annotations

__version__ = "0.1.0"
