"""The side of WhisperX that runs in its own environment; :mod:`models.whisperx` starts it.

It imports nothing of this project. On its input come a line of JSON and so many bytes of samples
(float32, little endian, mono, 16 kHz) as the line says; for each goes out a line of JSON. When its
input ends, the process that wanted it is gone, and it ends too.

WhisperX's ways to find a voice are not used: one unpickles a checkpoint, the other downloads code.
Neither is its cutting of sentences, which wants a download: sentences are made from the words later.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

SAMPLE_RATE = 16_000
CHUNK_S = 30.0
Request = tuple[dict[str, Any], Any]


class Engine:
    """Loaded recogniser, and the aligner of the language spoken last."""

    def __init__(self, settings: dict[str, Any]) -> None:
        # First, so that an environment without it says so at once.
        from whisperx import alignment  # isort: skip
        import torch
        from whisperx.asr import load_model
        from whisperx.vads import Vad

        class GivenChunks(Vad):  # type: ignore[misc]
            """Stand-in for WhisperX's voice detection; the chunks are known already."""

            chunks: list[dict[str, Any]] = []  # noqa: RUF012

            def __call__(self, audio: object) -> None:
                return None

            def merge_chunks(self, *_: object, **__: object) -> list[dict[str, Any]]:
                return self.chunks

        torch.set_num_threads(settings["threads"])
        # One sentence, whatever is in it: the real one loads its rules from a download.
        alignment.nltk_load = lambda _: _Whole()
        self._settings = settings
        self._alignment = alignment
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._voice = GivenChunks(0.5)
        self._pipeline = load_model(
            settings["model"],
            self._device,
            compute_type="int8",
            vad_model=self._voice,
            threads=settings["threads"],
            local_files_only=True,
        )
        self._aligner: tuple[str, Any, dict[str, Any]] | None = None

    def answer(self, request: dict[str, Any], samples: Any) -> dict[str, Any]:
        """Recognise the given stretches of voice: passages of words with times."""
        chunks = merged(request["spans"])
        language = self._language(samples, chunks)
        self._voice.chunks = chunks
        decoded = self._pipeline.transcribe(
            samples, batch_size=self._settings["batch_size"], language=language
        )
        return {
            "language": language,
            "passages": [
                {
                    "words": self._aligned(samples, segment, language),
                    "log_probability": float(segment["avg_logprob"]),
                }
                for segment in decoded["segments"]
                if segment["text"].strip()
            ],
        }

    def _language(self, samples: Any, chunks: Sequence[dict[str, Any]]) -> str:
        if not self._pipeline.model.model.is_multilingual:
            return "en"
        if self._settings["language"] is not None:
            return str(self._settings["language"])
        # WhisperX itself listens to the first 30 s, in which there may be no voice at all.
        first = round(chunks[0]["start"] * SAMPLE_RATE)
        return str(self._pipeline.detect_language(samples[first:]))

    def _aligned(self, samples: Any, segment: dict[str, Any], language: str) -> list[list[Any]]:
        """Return (start, end, text, score) of each word; spread by letters if nothing can align them."""
        model, vocabulary = self._aligner_of(language)
        spaced = language not in self._alignment.LANGUAGES_WITHOUT_SPACES
        space = " " if spaced else ""
        words: list[dict[str, Any]] = []
        if model is not None:
            found = self._alignment.align([segment], model, vocabulary, samples, self._device)
            words = found["word_segments"]
        if words and all("start" in word and "end" in word for word in words):
            return [
                [float(word["start"]), float(word["end"]), space + word["word"], word.get("score", 0.0)]
                for word in words
            ]
        texts = [space + text for text in (segment["text"].split() if spaced else segment["text"])]
        return spread(texts, segment["start"], segment["end"], segment["avg_logprob"])

    def _aligner_of(self, language: str) -> tuple[Any, dict[str, Any]]:
        if self._aligner is None or self._aligner[0] != language:
            self._aligner = (language, *self._load_aligner(language))
        return self._aligner[1:]

    def _load_aligner(self, language: str) -> tuple[Any, dict[str, Any]]:
        """Load the aligner and its metadata; no model for a language that has none.

        WhisperX's own loader would unpickle what it downloads. This takes the same models as data.
        """
        folder = self._settings["align_model"]
        bundle = self._alignment.DEFAULT_ALIGN_MODELS_TORCH.get(language)
        name = folder or bundle or self._alignment.DEFAULT_ALIGN_MODELS_HF.get(language)
        if name is None:
            return None, {}
        try:
            if name == bundle:
                model, letters = _of_torchaudio(name)
            else:
                model, letters = _of_transformers(name, local=folder is not None)
        except Exception as error:
            raise MissingAlignerError(
                f"the aligner {name} cannot be loaded ({error}); set transcribe.align_model to the folder "
                "of a wav2vec2 CTC model with its vocabulary and model.safetensors"
            ) from error
        kind = "torchaudio" if name == bundle else "huggingface"
        dictionary = {letter.lower(): code for letter, code in letters.items()}
        metadata = {"language": language, "dictionary": dictionary, "type": kind}
        return model.to(self._device).eval(), metadata


def _of_torchaudio(name: str) -> tuple[Any, dict[str, int]]:
    """Load one of torchaudio's pipelines and the codes of its letters."""
    import torchaudio

    bundle = getattr(torchaudio.pipelines, name)
    model = bundle.get_model(dl_kwargs={"weights_only": True})
    return model, {letter: code for code, letter in enumerate(bundle.get_labels())}


def _of_transformers(name: str, *, local: bool) -> tuple[Any, dict[str, int]]:
    """Load a model from a folder or hub, and the codes of its letters."""
    from transformers import Wav2Vec2CTCTokenizer, Wav2Vec2ForCTC

    model = Wav2Vec2ForCTC.from_pretrained(name, use_safetensors=True, local_files_only=local)
    letters = Wav2Vec2CTCTokenizer.from_pretrained(name, local_files_only=local).get_vocab()
    return model, letters


class MissingAlignerError(Exception):
    """Alignment model that cannot be had."""


class _Whole:
    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def merged(spans: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Join neighbouring stretches of voice into chunks of at most 30 s, in WhisperX's form."""
    chunks: list[dict[str, Any]] = []
    for start, end in spans:
        if chunks and end - chunks[-1]["start"] <= CHUNK_S:
            chunks[-1]["end"] = end
            chunks[-1]["segments"].append((start, end))
        else:
            chunks.append({"start": start, "end": end, "segments": [(start, end)]})
    return chunks


def spread(texts: Sequence[str], start_s: float, end_s: float, log_probability: float) -> list[list[Any]]:
    """Spread words over an interval by their letters, all of the same probability."""
    pace = (end_s - start_s) / max(1, sum(len(text) for text in texts))
    score = float(np.exp(log_probability))
    words: list[list[Any]] = []
    for text in texts:
        end = start_s + pace * len(text)
        words.append([round(start_s, 3), round(end, 3), text, score])
        start_s = end
    return words


def main() -> None:
    """Load what the first line asks for, then answer until the input ends."""
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    # Libraries print on what they take for the terminal; answers go where it was.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    engine: Engine | None = None
    while True:
        request, samples = requests.get()
        reply: dict[str, Any] = {}
        try:
            if engine is None:
                engine = Engine(request)
            else:
                reply = engine.answer(request, samples)
        except MissingAlignerError as error:
            reply = {"missing": str(error)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(reply).encode() + b"\n")
        answers.flush()


def _listen(requests: queue.SimpleQueue[Request]) -> None:
    """Read requests also during work, so that the end of the input is never missed."""
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        sound = sys.stdin.buffer.read(request["bytes"])
        requests.put((request, np.frombuffer(sound, "<f4").copy()))
    os._exit(0)


if __name__ == "__main__":
    main()
