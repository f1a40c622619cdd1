"""Languages of streams."""

from __future__ import annotations

from av.stream import Stream

LANGUAGES = {
    "ara": "ar", "chi": "zh", "zho": "zh", "cze": "cs", "ces": "cs", "dan": "da", "dut": "nl",
    "nld": "nl", "eng": "en", "fin": "fi", "fre": "fr", "fra": "fr", "ger": "de", "deu": "de",
    "gre": "el", "ell": "el", "heb": "he", "hin": "hi", "hun": "hu", "ind": "id", "ita": "it",
    "jpn": "ja", "kor": "ko", "nor": "no", "pol": "pl", "por": "pt", "rum": "ro", "ron": "ro",
    "rus": "ru", "spa": "es", "swe": "sv", "tha": "th", "tur": "tr", "ukr": "uk", "vie": "vi",
}  # fmt: skip
"""ISO 639-1 codes by the ISO 639-2 ones that containers use."""


def language_of(stream: Stream) -> str:
    """Return the ISO 639-1 code of a stream's language; empty where the file does not state a known one."""
    stated = (stream.language or "").lower()
    return stated if len(stated) == 2 else LANGUAGES.get(stated, "")
