"""Remove words that a recogniser wrote but that were not spoken.

Whisper was trained on subtitles. Over music and noise it writes what subtitles say there (thanks for
watching, who made them, ``[Music]``), and it can fall into a loop. Voice activity keeps most of such
sound from it; this is for what passes.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from itertools import accumulate

from models.spoken import Passage, Span, SpokenWord

SILENT_NO_SPEECH = 0.6
SILENT_CONFIDENCE = 0.37
"""Whisper's own rule for silence: no-speech probability and mean log probability (exp(-1))."""
MAX_COMPRESSION = 2.4
MIN_COMPRESSED_WORDS = 20
"""Whisper's own bound on how well a text may compress; short texts compress in no telling way."""
MAX_PHRASE_WORDS = 12
MAX_WORD_REPEATS = 7
MAX_PHRASE_REPEATS = 4
"""A cook says "stir" seven times in a row, if need be; a phrase four times."""
FASTEST_WORDS_PER_S = 8.0
"""Nobody says a thing four times at that speed."""
NEAR_VOICE_S = 0.25
MIN_FILLER_VOICE = 0.5
MIN_FILLER_PROBABILITY = 0.5
ENDS = (".", "?", "!", "。", "？", "！")
MARK = re.compile(r"\[[^\]]*\]|\*[^*]*\*|[♪♫][^♪♫]*[♪♫]?|(?:^|(?<=[.?!] ))\s*\([^)]*\)")
"""A remark in brackets is one only where it is a sentence by itself."""
FILLERS = re.compile(
    r"you|bye( bye)?|(oh )?thank you( so much| very much)?( bye)?|"
    r"(thank you|thanks)( so much| very much| guys)? for (watching|listening|viewing|your attention)"
    r"( (and )?.*\b(video|time|bye))?|"
    r"(please |and |don t forget to |like and |share and )*subscribe( to .*| for .*)?|"
    r"see you (in the )?next (time|video)|"
    r".*\b(amara org|opensubtitles|zdf|caption(s|ed) by|subtitles by|subs by|transcri(bed|ption) by)\b.*|"
    r"vielen dank( fürs zuschauen)?|untertitel( von| der| im auftrag)?\b.*|copyright wdr.*|"
    r"sous titr(es|age)\b.*|merci d avoir regardé( cette vidéo)?|"
    r"subtítulos\b.*|gracias por ver( el video| el vídeo)?|"
    r"sottotitoli\b.*|grazie per( la visione| aver guardato( il video)?)|"
    r"legendas\b.*|obrigad[oa] por assistir|ご視聴ありがとうございました|字幕.*"
)


def without_unsaid(passages: Sequence[Passage], voice: Sequence[Span]) -> tuple[list[SpokenWord], int]:
    """Return the words that were spoken, and how many others were removed.

    Taken out are passages that their own decoder holds for silence, words away from any voice, all
    but the first round of a loop, passages that still compress like one, marks such as ``[Music]``,
    and a subtitle's set phrases where the sound does not bear them out.

    Args:
        passages: in order of time.
        voice: where there is a voice, without padding.
    """
    spoken: list[SpokenWord] = []
    for passage in passages:
        if passage.no_speech > SILENT_NO_SPEECH and passage.confidence < SILENT_CONFIDENCE:
            continue
        words = [
            word
            for sentence in _sentences(_without_loops(_without_marks(passage.words)))
            if not _is_filler(sentence, voice)
            for word in sentence
            if _is_voiced(word, voice)
        ]
        if len(words) < MIN_COMPRESSED_WORDS or _compression(words) <= MAX_COMPRESSION:
            spoken += words
    # A loop may also go on from one passage to the next.
    spoken = _without_loops(spoken)
    return spoken, sum(len(passage.words) for passage in passages) - len(spoken)


def _without_marks(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Remove marks for sounds, which may be several words long."""
    ends = list(accumulate(len(word.text) for word in words))
    marks = [match.span() for match in MARK.finditer("".join(word.text for word in words))]
    return [
        word
        for word, end in zip(words, ends, strict=True)
        if not any(first < end and end - len(word.text.lstrip()) < last for first, last in marks)
    ]


def _without_loops(words: list[SpokenWord]) -> list[SpokenWord]:
    """Keep the first round of every loop."""
    for size in range(1, MAX_PHRASE_WORDS + 1):
        plain = [_plain(word.text) for word in words]
        kept: list[SpokenWord] = []
        at = 0
        while at < len(words):
            end = at + size
            while end < len(words) and plain[end] == plain[end - size]:
                end += 1
            repeats = (end - at) // size
            if repeats > 1 and any(plain[at : at + size]) and _is_loop(words[at:end], repeats, size):
                kept += words[at : at + size]
                at = end
            else:
                kept.append(words[at])
                at += 1
        words = kept
    return words


def _is_loop(run: Sequence[SpokenWord], repeats: int, size: int) -> bool:
    most = MAX_WORD_REPEATS if size == 1 else MAX_PHRASE_REPEATS
    lasts_s = max(word.end_s for word in run) - run[0].start_s
    return repeats > most or (repeats > 3 and len(run) > FASTEST_WORDS_PER_S * lasts_s)


def _is_filler(sentence: Sequence[SpokenWord], voice: Sequence[Span]) -> bool:
    if not FILLERS.fullmatch(_plain("".join(word.text for word in sentence))):
        return False
    lasts_s = sum(word.end_s - word.start_s for word in sentence)
    voiced = sum(_voiced_s(word, voice) for word in sentence)
    probability = sum(word.probability for word in sentence) / len(sentence)
    return voiced < MIN_FILLER_VOICE * lasts_s or probability < MIN_FILLER_PROBABILITY


def _sentences(words: Sequence[SpokenWord]) -> Iterator[list[SpokenWord]]:
    current: list[SpokenWord] = []
    for word in words:
        current.append(word)
        if word.text.rstrip().endswith(ENDS):
            yield current
            current = []
    if current:
        yield current


def _voiced_s(word: SpokenWord, voice: Sequence[Span]) -> float:
    return sum(max(0.0, min(word.end_s, end) - max(word.start_s, start)) for start, end in voice)


def _is_voiced(word: SpokenWord, voice: Sequence[Span]) -> bool:
    return any(
        word.start_s < end + NEAR_VOICE_S and word.end_s > start - NEAR_VOICE_S for start, end in voice
    )


def _compression(words: Sequence[SpokenWord]) -> float:
    text = "".join(word.text for word in words).strip().encode()
    return len(text) / len(zlib.compress(text))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
