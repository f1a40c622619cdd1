"""WhisperX with forced alignment, in an environment of its own.

It pins another torch than ours, so it runs as a child process of another interpreter, see
``whisperx_worker.py``. Where there is a voice is found here, as for :mod:`models.speech`; WhisperX
recognises and aligns.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import MissingWeightsError, TransientError
from models.hallucinations import without_unsaid
from models.media import SAMPLE_RATE
from models.speech import FasterWhisper, model_folder, voiced
from models.spoken import Heard, Passage, Span, SpokenWord

LONGEST_S = 28.0
"""Whisper hears 30 s at a time; what is longer would be lost."""
PADDING_S = 0.4
WORKER = Path(__file__).with_name("whisperx_worker.py")
WAY_OUT = "make one with `make env-whisperx` and set transcribe.python to its bin/python"


class WhisperX:
    """WhisperX as a child process; a :class:`models.spoken.SpeechRecogniser`.

    A word's probability is what the aligner gives its letters. Words that it cannot align, or of a
    language that has no aligner, are spread over their passage by their letters.

    Args:
        model: as for :class:`models.speech.FasterWhisper`.
        python: the interpreter of an environment that has WhisperX; see ``infra/envs/whisperx.txt``.
        align_model: folder of a wav2vec2 model with a CTC head (safetensors); None lets WhisperX
            download the one it has for the language.

    Raises:
        RuntimeError: there is no such interpreter, or it cannot load WhisperX or the models; the
            message ends with what it wrote.
    """

    def __init__(
        self,
        model: str,
        *,
        language: str | None,
        threads: int,
        batch_size: int,
        python: str | None,
        align_model: str | None,
    ) -> None:
        if python is None:
            raise RuntimeError(f"transcribe.engine whisperx needs an environment of its own: {WAY_OUT}")
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._translator: FasterWhisper | None = None
        self._load_translator = partial(
            FasterWhisper, model, language=language, threads=threads, batch_size=batch_size
        )
        settings = {
            "model": str(model_folder(model)),
            "language": language,
            "threads": threads,
            "batch_size": batch_size,
            "align_model": align_model,
        }
        self._settings = settings
        self._command = [python, "-I", str(WORKER)]
        self._start()

    def _start(self) -> None:
        python, settings = self._command[0], self._settings
        try:
            # Isolated: neither this environment's packages nor this folder, which holds a module of
            # the same name, may stand in the way of the child's own.
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, "OMP_NUM_THREADS": str(settings["threads"])},
                # Ctrl-C reaches the whole terminal group; the job decides when its workers go.
                start_new_session=True,
            )
        except OSError as error:
            raise RuntimeError(
                f"transcribe.python: {python} cannot be started: {error}; {WAY_OUT}"
            ) from error
        try:
            self._ask(settings)
        except (RuntimeError, TransientError) as error:
            self.close()
            raise RuntimeError(f"transcribe.python: {python}: {error}; {WAY_OUT}") from error

    def hear(self, samples: NDArray[np.float32], language: str = "") -> Heard:
        """Recognise and align mono samples ``[n]`` at 16 kHz; WhisperX takes no hint of a language.

        Raises:
            models.errors.TransientError: the other process died; it is restarted for the next call.
        """
        spans = [
            (max(0.0, start - PADDING_S), min(len(samples) / SAMPLE_RATE, end + PADDING_S))
            for start, end in voiced(samples, longest_s=LONGEST_S)
        ]
        if not spans:
            return Heard(language="", words=[])
        if self._child.poll() is not None:
            self._close_pipes()
            self._start()
        answer = self._ask({"spans": spans}, samples)
        passages = [
            Passage(
                words=[
                    SpokenWord(start_s=float(start), end_s=float(end), text=text, probability=float(score))
                    for start, end, text, score in passage["words"]
                ],
                confidence=math.exp(passage["log_probability"]),
            )
            for passage in answer["passages"]
        ]
        # It has listened to voice alone; where a word is then aligned says nothing about that.
        words, removed = without_unsaid(passages, [(spans[0][0], spans[-1][1])])
        return Heard(language=answer["language"] if words else "", words=words, removed_words=removed)

    def translate(
        self, samples: NDArray[np.float32], spans: Sequence[Span], language: str
    ) -> list[str] | None:
        """Return the speech of each span in English; None if the model does not know the language.

        Alignment helps nothing here: words of one language cannot be aligned with another's sound.
        """
        if self._translator is None:
            self._translator = self._load_translator()
        return self._translator.translate(samples, spans, language)

    def close(self) -> None:
        """End the child."""
        if self._translator is not None:
            self._translator.close()
        self._child.kill()
        self._child.wait()
        self._close_pipes()

    def _close_pipes(self) -> None:
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _ask(self, request: dict[str, Any], samples: NDArray[np.float32] | None = None) -> dict[str, Any]:
        """Send one line of JSON and the samples; the answer is one line of JSON."""
        assert self._child.stdin is not None and self._child.stdout is not None
        sound = b"" if samples is None else np.ascontiguousarray(samples, "<f4").tobytes()
        try:
            self._child.stdin.write(json.dumps({**request, "bytes": len(sound)}).encode() + b"\n" + sound)
            self._child.stdin.flush()
            line = self._child.stdout.readline()
        except OSError:
            line = b""
        if not line:
            raise TransientError(f"the WhisperX process ended: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingWeightsError(answer["missing"])
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._child.wait()
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-500:] or "it wrote nothing"
