"""Near-duplicates: fingerprints of clips, and the decision over all clips of a set."""

from stages.duplicates.decision import Duplicate, near_duplicates
from stages.duplicates.fingerprint import DuplicateSettings, FingerprintClips, hashes_of, thumbs_of

__all__ = [
    "Duplicate",
    "DuplicateSettings",
    "FingerprintClips",
    "hashes_of",
    "near_duplicates",
    "thumbs_of",
]
