"""The one decoding pass over the pictures."""

from stages.scan.stage import Scan, ScanSettings

__all__ = [
    "Scan",
    "ScanSettings",
]
