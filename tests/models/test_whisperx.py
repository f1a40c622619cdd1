"""WhisperX is another interpreter's business: what is said to it, and what when it does not answer.

The interpreter here is a script that answers as the real child does; ``benchmarks/speech.py`` runs the
real one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.media import SAMPLE_RATE as VOICE_RATE
from examples.media import speak
from models.errors import MissingWeightsError, TransientError
from models.spoken import Heard, SpokenWord
from models.whisperx import WORKER, WhisperX
from models.whisperx_worker import merged, spread

CHILD = """
import json, os, sys
assert sys.argv[1:] == ["-I", {worker!r}], sys.argv
source, fate = sys.stdin.buffer, {fate!r}
settings = json.loads(source.readline())
if fate == "dies":
    print("libtorch.so: cannot open shared object file", file=sys.stderr)
    sys.exit(1)
def say(answer):
    print(json.dumps(answer), flush=True)
open({pid!r}, "w").write(str(os.getpid()))
say({{"error": "ModuleNotFoundError: No module named 'whisperx'"}} if fate == "lacks it" else {{}})
while line := source.readline():
    request = json.loads(line)
    sound = source.read(request["bytes"])
    if fate == "cannot align":
        say({{"missing": "WhisperX cannot download its aligner"}})
    else:
        start, end = request["spans"][0][0], request["spans"][-1][1]
        words = [[start, start + 0.2, " Chop", 0.9], [start + 0.3, end, " it.", 0.8]]
        words += [[start, end, word, 0.9] for word in [" Mix", " well."] * 9]
        say({{"language": "en", "passages": [{{"words": words, "log_probability": -0.1}}]}})
"""


def interpreter(folder: Path, fate: str = "answers") -> str:
    """A program in the place of the other environment's Python."""
    path = folder / "python"
    pid = str(folder / "pid")
    path.write_text(f"#!{sys.executable}\n" + CHILD.format(worker=str(WORKER), fate=fate, pid=pid))
    path.chmod(0o755)
    return str(path)


def whisperx(python: str | None) -> WhisperX:
    return WhisperX("base", language=None, threads=1, batch_size=4, python=python, align_model=None)


@pytest.fixture
def recogniser(tmp_path: Path) -> Iterator[WhisperX]:
    found = whisperx(interpreter(tmp_path))
    yield found
    found.close()


def voice() -> np.ndarray:
    """A second of nothing, then speech at 16 kHz."""
    said = speak("Chop it. Mix well.")
    times = np.arange(0, said.size, VOICE_RATE / 16_000)
    return np.concatenate(
        [np.zeros(16_000), np.interp(times, np.arange(said.size), said), np.zeros(8_000)]
    ).astype(np.float32)


def test_words_come_back_with_their_times_and_without_loops(recogniser: WhisperX) -> None:
    heard = recogniser.hear(voice())
    assert (heard.language, heard.removed_words) == ("en", 16)
    assert [word.text for word in heard.words] == [" Chop", " it.", " Mix", " well."]
    first = heard.words[0]
    assert first == SpokenWord(
        start_s=first.start_s, end_s=first.start_s + 0.2, text=" Chop", probability=0.9
    )
    # The voice begins at 1 s, and the child hears a little of what lies before.
    assert 0.5 < first.start_s < 1.0
    # It stays open, and answers again.
    assert recogniser.hear(voice()) == heard


def test_where_nobody_speaks_the_child_is_not_asked(recogniser: WhisperX) -> None:
    recogniser.close()
    assert recogniser.hear(np.zeros(48_000, np.float32)) == Heard(language="", words=[])


def test_an_interpreter_that_is_not_there_is_named_with_the_way_out(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere" / "python")
    with pytest.raises(RuntimeError, match=r"transcribe\.python: .*nowhere/python.*make env-whisperx"):
        whisperx(missing)
    with pytest.raises(RuntimeError, match=r"make env-whisperx"):
        whisperx(None)


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        ("lacks it", "No module named 'whisperx'.*make env-whisperx"),
        ("dies", "libtorch.so: cannot open shared object file.*make env-whisperx"),
    ],
)
def test_an_environment_that_cannot_do_it_says_why(fate: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=said):
        whisperx(interpreter(tmp_path, fate))


def test_this_environment_has_no_whisperx_and_says_so() -> None:
    """The real worker, in an interpreter that lacks the package."""
    with pytest.raises(RuntimeError, match=r"No module named 'whisperx'.*make env-whisperx"):
        whisperx(sys.executable)


def test_an_aligner_that_cannot_be_had_is_a_missing_weight(tmp_path: Path) -> None:
    recogniser = whisperx(interpreter(tmp_path, "cannot align"))
    with pytest.raises(MissingWeightsError, match="cannot download its aligner"):
        recogniser.hear(voice())
    recogniser.close()


def test_a_child_that_dies_is_started_again(tmp_path: Path, recogniser: WhisperX) -> None:
    heard = recogniser.hear(voice())
    first = (tmp_path / "pid").read_text()
    os.kill(int(first), 9)
    try:
        # What was on its way is worth another try, which a new child answers.
        again = recogniser.hear(voice())
    except TransientError as error:
        assert "the WhisperX process ended" in str(error)
        again = recogniser.hear(voice())
    assert again == heard and (tmp_path / "pid").read_text() != first


def test_the_worker_ends_when_nobody_is_left_to_ask_it() -> None:
    """Its input ends with the parent, however that ends; also while it works."""
    child = subprocess.Popen([sys.executable, "-I", str(WORKER)], stdin=subprocess.PIPE)
    assert child.stdin is not None
    time.sleep(0.2)
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(timeout=20) == 0


def test_voice_is_joined_to_chunks_that_whisper_can_hold() -> None:
    spans = [(0.0, 10.0), (11.0, 20.0), (21.0, 30.5), (40.0, 41.0)]
    chunks = [(chunk["start"], chunk["end"], len(chunk["segments"])) for chunk in merged(spans)]
    assert chunks == [(0.0, 20.0, 2), (21.0, 41.0, 2)]


def test_words_nothing_can_align_are_spread_by_their_letters() -> None:
    assert spread(["ab", "cdef", "gh"], 1.0, 5.0, 0.0) == [
        [1.0, 2.0, "ab", 1.0],
        [2.0, 4.0, "cdef", 1.0],
        [4.0, 5.0, "gh", 1.0],
    ]
