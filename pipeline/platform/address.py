"""Address of the Ray cluster to join; without an import of Ray, which takes seconds."""

from __future__ import annotations

import os


def cluster_address(configured: str | None) -> str | None:
    """Return the address of the cluster to join; None if one is started on this machine."""
    return configured or os.environ.get("RAY_ADDRESS")
