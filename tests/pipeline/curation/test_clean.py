"""Cleaning a memo: what an OUTPUT needs stays, the rest goes, and a rehearsal changes nothing."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.engine import curate_free
from benchmarks.free_stages import write_files
from pipeline.cli.main import main
from pipeline.curation.bucket_memo import open_memo
from pipeline.curation.clean import CleanError, clean
from pipeline.platform.memo import Memo
from stages.frames import packed_frames
from tests.support.buckets import bucket, s3_server

__all__ = ["bucket", "s3_server"]

FILES = 3


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files, a memo, and an OUTPUT of them."""
    folder = tmp_path_factory.mktemp("clean")
    write_files(folder / "files", FILES, "clean")
    curate_free(folder / "files", folder / "out", "local", memo=folder / "memo")
    return folder


@pytest.fixture
def mine(tmp_path: Path, finished: Path) -> Path:
    """A copy of the memo and of OUTPUT; its run file names the files of the first one."""
    shutil.copytree(finished, tmp_path / "mine")
    return tmp_path / "mine"


def keys(memo: Path) -> set[str]:
    lines = [line for path in memo.glob("*.seg") for line in path.read_text().splitlines()]
    return {line.partition(" ")[0] for line in lines}


def test_what_an_output_needs_stays(mine: Path) -> None:
    before = keys(mine / "memo")
    # Two processes may have computed the same result.
    results = max(mine.glob("memo/*.seg"), key=lambda path: path.stat().st_size)
    shutil.copy(results, results.with_name("again.seg"))
    found = clean([mine / "out"], memo=mine / "memo", dry_run=False)
    assert set(found.dropped) == {key.rpartition("-")[0] for key in before} - {"content"}
    assert not found.missing
    assert keys(mine / "memo") == before and len(list((mine / "memo").glob("*.seg"))) == 1


def test_what_no_output_needs_goes_and_answers_stay(mine: Path) -> None:
    before = keys(mine / "memo")
    memo = Memo(mine / "memo")
    for key in ("scan-0", "answer-0", "reject-0"):
        memo.put(key, "[1, 2]")
    memo.close()
    stale = packed_frames(mine / "out" / "_work", "ffff")
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"1234")
    rehearsed = clean([mine / "out"], memo=mine / "memo", dry_run=True)
    assert {kind: number for kind, (number, _) in rehearsed.dropped.items()} == {"scan": 1, "reject": 1}
    assert rehearsed.frames_bytes == 4 and stale.exists()
    assert keys(mine / "memo") == before | {"scan-0", "answer-0", "reject-0"}
    assert clean([mine / "out"], memo=mine / "memo", dry_run=False) == rehearsed
    assert keys(mine / "memo") == before | {"answer-0"} and not stale.exists()


def test_a_memo_in_a_bucket_is_cleaned_for_all_nodes(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, files = f"{bucket}/memo", tmp_path / "files"
    monkeypatch.setenv("VIDEOAUTEUR_CACHE", str(tmp_path / "node"))
    write_files(files, FILES, "clean")
    curate_free(files, tmp_path / "out", "local", memo=place)
    with closing(open_memo(place)) as memo:
        needed = keys(memo.folder)
        for key in ("scan-0", "answer-0"):
            memo.put(key, "1")
    rehearsed = clean([tmp_path / "out"], memo=place, dry_run=True)
    assert clean([tmp_path / "out"], memo=place, dry_run=False) == rehearsed
    assert rehearsed.dropped["scan"][0] == 1 and not rehearsed.missing
    for node in ("node", "other"):
        monkeypatch.setenv("VIDEOAUTEUR_CACHE", str(tmp_path / node))
        with closing(open_memo(place)) as memo:
            assert keys(memo.folder) == needed | {"answer-0"}
            assert [path.name[:4] for path in memo.folder.glob("*.seg")] == ["all-"]
            assert memo.get("answer-0") == "1" and memo.get("scan-0") is None


def test_records_of_a_run_at_work_are_left_alone(mine: Path) -> None:
    memo = Memo(mine / "memo")
    memo.put("scan-0", "1")
    with pytest.raises(Exception, match="a run is writing"):
        clean([mine / "out"], memo=mine / "memo", dry_run=False)
    memo.close()


def test_an_unfinished_output_is_refused_and_the_rehearsal_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path / "files", FILES, "clean")
    curate_free(tmp_path / "files", tmp_path / "out", "local")
    write_files(tmp_path / "files" / "more", 2, "more")
    assert main(["clean", str(tmp_path / "out"), "--dry-run"]) == 0
    assert "2 videos would be processed from probe on" in capsys.readouterr().out
    with pytest.raises(CleanError, match="2 videos are not finished"):
        clean([tmp_path / "out"], memo=None, dry_run=False)
