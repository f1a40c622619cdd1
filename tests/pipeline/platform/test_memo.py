"""Stored records are found again, whatever happened to the writer or to the disk."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from pipeline.platform.memo import Memo

ROOT = Path(__file__).parents[3]
WRITER = """
import sys
from pathlib import Path
from pipeline.platform.memo import Memo
memo = Memo(Path(sys.argv[1]))
for number in range(1_000_000):
    memo.put(f"key-{number}", f'"{number}"' + " " * 5000)
    print(number, flush=True)
"""


def segment(folder: Path) -> Path:
    (path,) = folder.glob("*.seg")
    return path


def test_values_come_back_in_the_same_and_in_another_process_s_memo(tmp_path: Path) -> None:
    values = {"plain": "{}", "text": '{"a": "Crème brûlée: a b  c"}', "empty": "", "big": "x" * 200_000}
    memo = Memo(tmp_path / "deep" / "memo")
    for key, value in values.items():
        memo.put(key, value)
    assert {key: memo.get(key) for key in values} == values
    memo.close()
    fresh = Memo(tmp_path / "deep" / "memo")
    assert {key: fresh.get(key) for key in values} == values
    assert fresh.get("plai") is None
    fresh.close()


def test_two_open_memos_see_each_other_s_answers(tmp_path: Path) -> None:
    one, other = Memo(tmp_path), Memo(tmp_path)
    assert other.get("a") is None
    one.put("a", "1")
    assert other.get("a") == "1"
    other.put("b", "2")
    one.put("c", "3")
    assert (one.get("b"), one.get("c"), other.get("c")) == ("2", "3", "3")
    assert len(list(tmp_path.glob("*.seg"))) == 2, "a segment has one writer"
    one.close()
    other.close()


def test_a_segment_is_private_to_one_user(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    memo.put("a", "1")
    memo.close()
    assert segment(tmp_path).stat().st_mode & 0o777 == 0o600


def test_reading_makes_no_segment(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    assert memo.get("a") is None
    memo.close()
    assert list(tmp_path.iterdir()) == []


def test_the_first_answer_stands(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    memo.put("a", "first")
    memo.put("a", "second")
    assert memo.get("a") == "first"
    memo.close()
    assert Memo(tmp_path).get("a") == "first"


def test_own_results_are_not_read_back(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    with patch.object(Memo, "_note", side_effect=AssertionError("a line was read")):
        for number in range(3):
            memo.put(f"result-{number}", str(number), durable=False)
        assert [memo.get(f"result-{number}") for number in range(4)] == ["0", "1", "2", None]
    memo.put("answer", "a")
    memo.put("result-3", "3", durable=False)
    memo.put("answer", "b")
    memo.put("result-0", "other", durable=False)
    assert [memo.get(key) for key in ("answer", "result-3", "result-0")] == ["a", "3", "0"]
    memo.close()


@pytest.mark.parametrize(("key", "value"), [("two words", "1"), ("two\nlines", "1"), ("key", '{\n"a": 1}')])
def test_what_does_not_fit_on_a_line_is_refused(tmp_path: Path, key: str, value: str) -> None:
    memo = Memo(tmp_path)
    with pytest.raises(ValueError, match="one line"):
        memo.put(key, value)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_costs_only_itself(tmp_path: Path) -> None:
    """Whatever byte the writer's death cut the file at."""
    memo = Memo(tmp_path / "whole")
    memo.put("a", '{"n": 1}')
    kept = segment(tmp_path / "whole").stat().st_size
    memo.put("b", '{"n": 2}')
    memo.close()
    whole = segment(tmp_path / "whole").read_bytes()
    for size in range(kept, len(whole)):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "torn.seg").write_bytes(whole[:size])
        memo = Memo(folder)
        assert (memo.get("a"), memo.get("b")) == ('{"n": 1}', None)
        memo.put("b", "again")
        assert memo.get("b") == "again"
        memo.close()


def test_a_line_that_is_finished_later_is_found(tmp_path: Path) -> None:
    """A reader may look while another process is in the middle of writing."""
    memo = Memo(tmp_path / "whole")
    memo.put("a", "1")
    memo.put("b", "2")
    memo.close()
    whole = segment(tmp_path / "whole").read_bytes()
    growing = tmp_path / "growing" / "x.seg"
    growing.parent.mkdir()
    growing.write_bytes(whole[:-3])
    reader = Memo(growing.parent)
    assert reader.get("b") is None
    growing.write_bytes(whole)
    assert reader.get("b") == "2"
    reader.close()


@pytest.mark.parametrize("bit", [0x01, 0x08, 0x80])
def test_a_flipped_bit_never_gives_a_wrong_answer(tmp_path: Path, bit: int) -> None:
    memo = Memo(tmp_path / "whole")
    truth = {"before": '{"n": 1}', "key": '{"text": "two words"}', "after": '{"n": 3}'}
    for key, value in truth.items():
        memo.put(key, value)
    memo.close()
    whole = segment(tmp_path / "whole").read_bytes()
    first, second = (whole.index(key) for key in (b"key ", b"after "))
    lost = 0
    for at in range(first, second):
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "x.seg").write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        reader = Memo(folder)
        assert reader.get("before") == truth["before"]
        assert reader.get("key") in (None, truth["key"])
        # The newline at the end of a record guards the next one.
        assert reader.get("after") == (None if at == second - 1 else truth["after"])
        lost += reader.get("key") is None
        reader.close()
    assert lost == second - first


def test_a_killed_writer_loses_nothing_that_put_had_returned_for(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(50)]
    writer.kill()
    told += [int(line) for line in writer.stdout if line.endswith("\n")]
    assert writer.wait() == -signal.SIGKILL
    memo = Memo(tmp_path)
    for number in told:
        assert memo.get(f"key-{number}") == f'"{number}"' + " " * 5000
    memo.put("another", "1")
    assert memo.get("another") == "1"
    memo.close()
