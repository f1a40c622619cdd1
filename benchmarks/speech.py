"""Measure speech recognition, and what actions and matches make of it, over voices and noise.

``python -m benchmarks.speech FOLDER`` takes the videos of ``benchmarks.recipes`` (NAME.mp4 with
NAME.json). Their pictures are scanned once; then their sound is heard as it is, spoken anew by other
voices, and with kitchen noise or music 10 dB below the voice. ``--whisperx PYTHON`` hears the same
again with WhisperX in its own environment. The aligner that WhisperX wants has to be downloaded; where
that cannot be, ``--tiny-aligner`` builds one of the same class that was never trained: it shows that
the mechanism works, its times mean nothing.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from benchmarks import recipes
from benchmarks.commands import parser_of
from benchmarks.machine import machine, markdown
from examples.media import SAMPLE_RATE as VOICE_RATE
from examples.media import speak
from models.files import sha256_of
from models.media import SAMPLE_RATE, read_audio
from pipeline.curation.chain import build_stages, endpoints
from pipeline.curation.config import Config
from pipeline.curation.ingest import Source
from pipeline.curation.rows import rows_of
from pipeline.curation.runners import Site
from pipeline.curation.servers import started_here
from pipeline.curation.worker import StageEvent
from pipeline.dataset.tables import write_tables
from pipeline.platform.config import load
from pipeline.platform.memo import Memo
from stages.base import Workspace
from stages.records import Interval, Transcript, Video
from stages.transcribe import Transcribe
from stages.view import path_of

Samples = NDArray[np.float32]
SNR_DB = 10.0
SPEAK_AT_S = 0.4
VOICES = {
    "en-gb-scotland, slow": ("en-gb-scotland", 130),
    "en-us+f3": ("en-us+f3", 150),
    "en-us+m7, fast": ("en-us+m7", 175),
}


def kitchen(seconds: float, seed: int) -> Samples:
    """Sizzling, clanking and the hum of a fan, ``[n]`` at 16 kHz."""
    rng = np.random.default_rng(seed)
    size = round(seconds * SAMPLE_RATE)
    hiss = np.diff(rng.normal(size=size), prepend=0.0)
    crackle = np.abs(np.convolve(rng.normal(size=size), np.ones(400) / 20, "same"))
    sound = hiss * (0.5 + 0.5 * crackle)
    ring_s = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE
    ring = np.exp(-30 * ring_s) * sum(np.sin(2 * np.pi * f * ring_s) for f in (1800.0, 2900.0, 4300.0))
    for at in rng.integers(0, max(1, size - ring.size), size=round(1.5 * seconds)):
        sound[at : at + ring.size] += 6 * ring[: size - at]
    times = np.arange(size) / SAMPLE_RATE
    return (sound + 0.5 * np.sin(2 * np.pi * 100 * times)).astype(np.float32)


def music(seconds: float, seed: int) -> Samples:
    """Struck chords over a beat, ``[n]`` at 16 kHz."""
    rng = np.random.default_rng(seed)
    size, beat = round(seconds * SAMPLE_RATE), SAMPLE_RATE // 2
    times = np.arange(beat) / SAMPLE_RATE
    sound = np.zeros(size + beat)
    roots = (220.0, 196.0, 262.0, 175.0)
    for number, at in enumerate(range(0, size, beat)):
        for note in (1.0, 1.26, 1.5):
            for overtone in range(1, 5):
                pitch = roots[number // 4 % 4] * note * overtone
                sound[at : at + beat] += np.exp(-3 * times) * np.sin(2 * np.pi * pitch * times) / overtone
        drum = np.exp(-25 * times)
        drum *= 2 * np.sin(2 * np.pi * 60 * times) if number % 2 == 0 else rng.normal(size=beat)
        sound[at : at + beat] += drum
    return sound[:size].astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A way in which the recipes are spoken.

    Attributes:
        voice: an espeak-ng voice and its words a minute; None leaves the video's own.
        noise: what lies under it, 10 dB below the voice; None adds nothing.
    """

    name: str
    voice: tuple[str, int] | None = None
    noise: Callable[[float, int], Samples] | None = None


CONDITIONS = (
    Condition(name="as it is"),
    *(Condition(name=name, voice=voice) for name, voice in VOICES.items()),
    Condition(name="as it is, kitchen", noise=kitchen),
    Condition(name="as it is, music", noise=music),
    *(
        Condition(name=f"{name}, {noise.__name__}", voice=voice, noise=noise)
        for (name, voice), noise in zip(VOICES.items(), (kitchen, music, kitchen), strict=True)
    ),
)


def main() -> None:
    """Hear every condition with every engine; print a table, then one JSON object."""
    parser = parser_of("speech", __doc__)
    parser.add_argument("folder", type=Path, help="videos with their truth beside them")
    parser.add_argument("--whisperx", metavar="PYTHON", help="interpreter of an environment that has it")
    parser.add_argument("--align-model", type=Path, help="folder of a wav2vec2 CTC model for WhisperX")
    parser.add_argument("--tiny-aligner", action="store_true", help="build one that was never trained")
    parser.add_argument(
        "--only", nargs="+", metavar="CONDITION", help=f"of: {[c.name for c in CONDITIONS]}"
    )
    arguments = parser.parse_args()
    truth = {path.stem: recipes.truth_of(path) for path in sorted(arguments.folder.glob("*.json"))}
    paths = [arguments.folder / f"{name}.mp4" for name in truth]
    if not paths:
        parser.error(f"{arguments.folder}: no NAME.mp4 with a NAME.json")
    conditions = [how for how in CONDITIONS if arguments.only is None or how.name in arguments.only]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        engines: dict[str, list[str]] = {"faster-whisper": []}
        if arguments.whisperx:
            aligner = tiny_aligner(folder / "aligner") if arguments.tiny_aligner else arguments.align_model
            chosen = [f"transcribe.align_model={aligner}"] if aligner else []
            python = f"transcribe.python={arguments.whisperx}"
            engines["whisperx"] = ["transcribe.engine=whisperx", python, *chosen]
        rows = list(_measured(paths, truth, conditions, engines, folder))
    print(f"{machine()}\n")
    print(markdown(list(rows[0]), [list(row.values()) for row in rows]), "\n")
    print(json.dumps(rows))


def _measured(
    paths: Sequence[Path],
    truth: Mapping[str, list[recipes.Step]],
    conditions: Sequence[Condition],
    engines: Mapping[str, list[str]],
    folder: Path,
) -> Iterator[dict[str, str | float | int]]:
    """A row for each condition and engine. Pictures are scanned once, for all of them."""
    config = load(None, [], Config).config
    with started_here(config, folder / "logs") as running, ExitStack() as stack:
        language, _ = endpoints(config, running.base_urls)
        site = Site(config=config, scratch=folder, memo=folder / "memo", language=language, vision=None)
        seeing, telling = site.worker(("probe", "scan")), site.worker(("clip", "refine", "match"))
        stack.callback(seeing.close)
        stack.callback(telling.close)
        nothing: Callable[[StageEvent], None] = lambda _: None  # noqa: E731
        sources = [Source(uri=path.resolve().as_uri(), content_id=sha256_of(path)) for path in paths]
        seen = list(seeing.process((source.video() for source in sources), nothing))
        workspace = Workspace(scratch=folder, answers=Memo(folder / "memo"), language=language, vision=None)
        listeners: dict[str, Transcribe] = {}
        for engine, chosen in engines.items():
            chain = build_stages(load(None, chosen, Config).config)
            listeners[engine] = next(stage for stage in chain if isinstance(stage, Transcribe))
            listeners[engine].open(workspace)
            stack.callback(listeners[engine].close)
        for number, (how, engine) in enumerate(product(conditions, engines)):
            heard: dict[str, Transcript] = {}
            steps: dict[str, list[recipes.Step]] = {}
            told: list[Video] = []
            seconds = 0.0
            for video in seen:
                name = path_of(video.uri).stem
                sound, steps[name] = spoken(video, truth[name], how)
                started = time.perf_counter()
                heard[name] = listeners[engine].listen(sound)
                seconds += time.perf_counter() - started
                told += telling.process([replace(video, transcript=heard[name])], nothing)
            found = figures(heard, told, steps, folder / str(number))
            length_s = sum(video.facts.duration_s for video in seen if video.facts)
            row = {"condition": how.name, "engine": engine, **found, "real_time_factor": seconds / length_s}
            print(json.dumps(row), file=sys.stderr, flush=True)
            yield row


def spoken(video: Video, steps: list[recipes.Step], how: Condition) -> tuple[Samples, list[recipes.Step]]:
    """The sound of a video under a condition, and when its sentences are heard then."""
    assert video.facts is not None
    duration_s = video.facts.duration_s
    sound = read_audio(path_of(video.uri), until_s=duration_s)
    if how.voice is not None:
        sound = np.zeros(round(duration_s * SAMPLE_RATE), np.float32)
        voice, rate = how.voice
        retold: list[recipes.Step] = []
        for step in steps:
            said = speak(step.text, voice=voice, words_per_minute=rate)
            said = resample_poly(said, SAMPLE_RATE, VOICE_RATE).astype(np.float32)
            at = round((step.clip.start_s + SPEAK_AT_S) * SAMPLE_RATE)
            said = said[: sound.size - at]
            sound[at : at + said.size] = said
            heard = Interval(start_s=at / SAMPLE_RATE, end_s=(at + said.size) / SAMPLE_RATE)
            retold.append(replace(step, action=heard))
        steps = retold
    if how.noise is not None:
        times = [
            slice(*(round(t * SAMPLE_RATE) for t in (s.action.start_s, s.action.end_s))) for s in steps
        ]
        noise = how.noise(sound.size / SAMPLE_RATE, 0)[: sound.size]
        power = np.mean(np.concatenate([sound[time] for time in times]) ** 2)
        noise *= np.sqrt(power / np.mean(noise**2) / 10 ** (SNR_DB / 10))
        sound = sound + noise
    return sound, steps


def figures(
    heard: Mapping[str, Transcript],
    told: list[Video],
    truth: Mapping[str, list[recipes.Step]],
    folder: Path,
) -> dict[str, float | int]:
    """Return the figures of one condition.

    Args:
        heard: transcripts by the video's name.
        told: the same videos with actions and matches.
        truth: the steps as they were spoken.
        folder: tables are written there.
    """
    rows = [rows_of(Source(uri=video.uri, content_id=video.content_id), video) for video in told]
    folder.mkdir(parents=True)
    write_tables(folder, rows, max_shard=10**9, max_row_group=10**8)
    scored = recipes.score(folder, dict(truth))
    starts: list[float] = []
    ends: list[float] = []
    for video in told:
        # Those that match no clip are measured, too.
        for step in truth[path_of(video.uri).stem]:
            near = max(video.actions, key=lambda action: action.iou(step.action), default=None)
            if near is not None and near.iou(step.action) > recipes.FOUND_IOU:
                starts.append(abs(near.start_s - step.action.start_s))
                ends.append(abs(near.end_s - step.action.end_s))
    wrong = all_words = 0
    for name, steps in truth.items():
        true = _words(" ".join(step.text for step in steps))
        wrong += _distance(true, _words(" ".join(s.text for s in heard[name].sentences)))
        all_words += len(true)
    return {
        "word_error_rate": wrong / all_words,
        "action_recall": scored["action_recall"],
        "start_error_median_s": _percentile(starts, 50),
        "start_error_p90_s": _percentile(starts, 90),
        "end_error_median_s": _percentile(ends, 50),
        "end_error_p90_s": _percentile(ends, 90),
        "match_precision": scored["match_precision"],
        "match_recall": scored["match_recall"],
        "removed_words": sum(each.removed_words for each in heard.values()),
    }


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def _distance(true: Sequence[str], given: Sequence[str]) -> int:
    """Words that must be changed, added or removed (Levenshtein)."""
    row = list(range(len(given) + 1))
    for i, word in enumerate(true, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(given, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (word != other))
    return row[-1]


def _percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else float("nan")


def tiny_aligner(folder: Path) -> Path:
    """A wav2vec2 model with a CTC head over letters, of random weights, saved as WhisperX reads it."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC

    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps({letter: code for code, letter in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(vocabulary)).save_pretrained(folder)  # type: ignore[no-untyped-call]
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, conv_dim=(32,) * 7, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2, pad_token_id=0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
