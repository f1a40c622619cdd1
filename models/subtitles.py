"""Read the text subtitles that come with a video: in it, or in a file beside it.

Both are opened by FFmpeg's demuxers from closed lists, through our own file object (see ``media.py``).
Players take subtitles of any quality, so whatever cannot be used is as good as absent.
"""

from __future__ import annotations

import html
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from models.errors import MediaError
from models.media import language_of, open_media, start_of
from models.spoken import SpokenWord

SIDE_CAR_FORMATS = {".srt": "srt", ".vtt": "webvtt"}
CODECS = frozenset({"srt", "subrip", "webvtt", "mov_text", "ass", "ssa", "text"})
MAX_BYTES = 10_000_000
MAX_CUES = 20_000
MAX_CUE_CHARACTERS = 1_000
ROLL_UP_GAP_S = 0.05
"""Captions that roll up repeat a line at once; who says a thing again takes breath."""
MAX_LETTERS = 1_800
"""Of cues that begin within ``LETTERS_WITHIN_S``; the fastest speech has less than half."""
LETTERS_WITHIN_S = 30.0
WORDS_A_STOP = 25
"""With fewer full stops than one in so many words, lines are not punctuated at all."""
TAGS = re.compile(r"\{[^}]*\}|<[^>]*>")
ESCAPES = {"\\{{}": "{", "\\\u2060": "\\", "\\N": "\n", "\\n": "\n", "\\h": " "}
"""How FFmpeg writes characters with a meaning in ASS: ``{\\an8}`` is none of WebVTT's own styles."""
SOUNDS = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫]+|^\s*(?:>>|-)\s*", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cue:
    """Lines that are shown together; times in seconds of presentation time."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]

    def words(self) -> list[SpokenWord]:
        """Spread the words over the cue's time by their letters."""
        texts = " ".join(self.lines).split()
        letters = sum(len(text) for text in texts)
        found: list[SpokenWord] = []
        at, pace = self.start_s, (self.end_s - self.start_s) / max(1, letters)
        for text in texts:
            end = at + pace * len(text)
            found.append(
                SpokenWord(start_s=round(at, 3), end_s=round(end, 3), text=f" {text}", probability=1.0)
            )
            at = end
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtitles:
    """Usable subtitles.

    Attributes:
        language: ISO 639-1 code, empty if unknown.
        form: the codec, e.g. ``subrip`` or ``webvtt``.
        cues: at least one, in order, without repeated lines.
    """

    language: str
    form: str
    cues: tuple[Cue, ...]

    @property
    def is_punctuated(self) -> bool:
        """Return whether full stops mark the sentences."""
        text = " ".join(line for cue in self.cues for line in cue.lines)
        return len(re.findall(r"[.?!。？！]", text)) * WORDS_A_STOP >= len(text.split())


def side_cars(video: Path, language: str | None) -> Iterator[tuple[Path, bytes]]:
    """Read files beside a video that may be its subtitles, the best first.

    ``NAME.srt`` and ``NAME.vtt``, then those with a language: the given one, or else ``en``. A file that
    cannot be read, or is too large, counts as absent.
    """
    for stem in (video.stem, f"{video.stem}.{language or 'en'}"):
        for suffix in SIDE_CAR_FORMATS:
            path = video.with_name(stem + suffix)
            # A name may be too long with another suffix.
            with suppress(OSError):
                if path.is_file() and path.stat().st_size <= MAX_BYTES:
                    yield path, path.read_bytes()


def read_side_car(video: Path, language: str | None, *, until_s: float) -> Subtitles | None:
    """Read the first usable side-car file; see :func:`side_cars`."""
    for path, content in side_cars(video, language):
        try:
            with av.open(
                io.BytesIO(_decoded(content).encode()),
                options={"format_whitelist": SIDE_CAR_FORMATS[path.suffix], "protocol_whitelist": "none"},
            ) as container:
                assert isinstance(container, InputContainer)
                found = _read(container, container.streams.subtitles[0], until_s)
        except (FFmpegError, ValueError, IndexError):
            continue
        if found:
            tag = path.stem.removeprefix(video.stem).removeprefix(".")
            return Subtitles(language=tag or language or "", form=path.suffix[1:], cues=found)
    return None


def read_embedded(video: Path, language: str | None, *, until_s: float) -> Subtitles | None:
    """Read the first stream of text subtitles, in the given language if there is one."""
    try:
        with open_media(video) as container:
            streams = [
                stream
                for stream in container.streams.subtitles
                if stream.codec_context.name in CODECS and not stream.disposition & Disposition.forced
            ]
            if language is not None:
                streams = [stream for stream in streams if language_of(stream) in (language, "")]
            if not streams:
                return None
            stream = min(streams, key=lambda stream: language_of(stream) != (language or "en"))
            found = _read(container, stream, until_s)
            stated = language_of(stream) or language or ""
            return Subtitles(language=stated, form=stream.codec_context.name, cues=found) if found else None
    except (MediaError, FFmpegError, ValueError):
        return None


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")


def _read(container: InputContainer, stream: SubtitleStream, until_s: float) -> tuple[Cue, ...]:
    cues = sorted(_cues(container, stream), key=lambda cue: cue.start_s)
    # The last line often stays beyond the end of the pictures.
    inside = (replace(cue, end_s=min(cue.end_s, until_s)) for cue in cues)
    found = tuple(_without_repeats(cue for cue in inside if 0 <= cue.start_s < cue.end_s))
    return found if _can_be_spoken(found) else ()


def _can_be_spoken(cues: Iterable[Cue]) -> bool:
    """Return whether somebody can say what is written; later stages compare neighbours in pairs."""
    recent: deque[tuple[float, int]] = deque()
    total = 0
    for cue in cues:
        recent.append((cue.start_s, sum(map(len, cue.lines))))
        total += recent[-1][1]
        while recent[0][0] < cue.start_s - LETTERS_WITHIN_S:
            total -= recent.popleft()[1]
        if total > MAX_LETTERS:
            return False
    return True


def _cues(container: InputContainer, stream: SubtitleStream) -> Iterator[Cue]:
    origin_s = start_of(container)
    for number, packet in enumerate(container.demux(stream)):
        if number == MAX_CUES:
            return
        if not packet.size or packet.pts is None or not packet.duration or packet.time_base is None:
            continue
        start_s = float(packet.pts * packet.time_base) - origin_s
        lines = [
            plain
            for subtitle in packet.decode()
            if isinstance(subtitle, AssSubtitle)
            for line in _text_of(subtitle)[:MAX_CUE_CHARACTERS].splitlines()
            for plain in [_plain(line)]
            if plain
        ]
        if lines:
            end_s = start_s + float(packet.duration * packet.time_base)
            yield Cue(start_s=round(start_s, 3), end_s=round(end_s, 3), lines=tuple(lines))


def _text_of(subtitle: AssSubtitle) -> str:
    """Return the text of an ASS event, its ninth field, with styles in braces."""
    text = subtitle.ass.decode(errors="replace").split(",", 8)[-1]
    for written, meant in ESCAPES.items():
        text = text.replace(written, meant)
    return text


def _plain(line: str) -> str:
    """Remove styles, and sounds that are described but not spoken."""
    return " ".join(SOUNDS.sub(" ", TAGS.sub("", html.unescape(line))).split())


def _without_repeats(cues: Iterable[Cue]) -> Iterator[Cue]:
    """Remove lines that the previous cue still shows."""
    before: Cue | None = None
    for cue in cues:
        shown = before.lines if before and cue.start_s - before.end_s <= ROLL_UP_GAP_S else ()
        repeated = max((n for n in range(1, len(cue.lines) + 1) if cue.lines[:n] == shown[-n:]), default=0)
        before = cue
        if cue.lines[repeated:]:
            yield Cue(start_s=cue.start_s, end_s=cue.end_s, lines=cue.lines[repeated:])
