"""Runs that fail, or must not begin: exit codes, budgets, full disks, crashes, outputs of others."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import EndpointError, StoreError
from models.ledger import Ledger
from pipeline.cli.main import main
from pipeline.curation.config import Config
from pipeline.curation.ingest import identify, survey
from pipeline.curation.job import OutputError, claimed
from pipeline.curation.progress import Tally
from pipeline.curation.run_file import RUN_FILE
from pipeline.curation.runners import Site
from pipeline.curation.store import GuardedMemo
from pipeline.dataset.tables import TableWriter
from pipeline.platform.config import load
from pipeline.platform.memo import Memo
from stages.base import BadInputError
from stages.probe import Probe
from stages.reasons import Reason
from stages.records import Video
from stages.view import file_of
from tests.support.curating import UNUSED, local, run_file, table


def test_a_wrong_key_ends_the_run_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(self: Probe, video: Video) -> Video:
        seen.append(file_of(video))
        raise EndpointError("http://x/v1 answers 401; look at api_key_env")

    seen: list[Path] = []
    monkeypatch.setattr(Probe, "measure", refused)
    given, output = tmp_path / "given", tmp_path / "out"
    given.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (given / name).write_bytes(name.encode())
    settings = [argument for setting in UNUSED for argument in ("--set", setting)]
    assert main(["curate", str(given), str(output), "--runner", "local", *settings]) == 2
    assert "probe: http://x/v1 answers 401; look at api_key_env" in capsys.readouterr().err
    assert len(seen) == 1
    told = run_file(output)
    assert (told["status"], told["videos_done"], told["videos_planned"]) == ("interrupted", 0, 2)


@pytest.mark.parametrize(("budget", "over"), [(0.5, False), (0.49, True)])
def test_failures_count_against_the_budget_and_bad_input_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: float, over: bool
) -> None:
    def broken(self: Probe, video: Video) -> Video:
        if file_of(video).name == "b.mp4":
            raise RuntimeError("of our own making")
        return real(self, video)

    real = Probe.measure
    monkeypatch.setattr(Probe, "measure", broken)
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).write_text(name)
    outcome = local(tmp_path / "in", tmp_path / "out", f"run.error_budget={budget}", *UNUSED)
    assert outcome.summary["rejects"] == {"file": {"bug": 1, "not_a_video": 1}}
    assert outcome.summary["videos"] == {"failed": 1, "rejected": 1}
    assert outcome.over_budget == over


def test_off_a_terminal_each_ended_video_is_a_line_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(self: Probe, video: Video) -> Video:
        if file_of(video).name == "b.mp4":
            raise RuntimeError("\x1b[2J\u202e<b>Authorization: Bearer a-secret-of-the-server")
        raise BadInputError(Reason.NOT_A_VIDEO, "text")

    monkeypatch.setattr(Probe, "measure", refused)
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "in" / name).write_text(name)
    local(tmp_path / "in", tmp_path / "out", "run.error_budget=1", *UNUSED)
    err = capsys.readouterr().err
    assert err.isascii() and "\x1b" not in err and "a-secret" not in err
    ended = [told for line in err.splitlines() if (told := json.loads(line))["event"] == "video_ended"]
    rows = table(tmp_path / "out", "videos")
    assert [(told["level"], told["stage"], told["reason"]) for told in ended] == [
        ("info", "probe", "not_a_video"), ("error", "probe", "bug"),
    ]  # fmt: skip
    assert {told["video"] for told in ended} == {row["video_id"] for row in rows}


def test_a_folder_without_a_single_film_is_a_result(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(20):
        (tmp_path / "in" / f"{number}.mp4").write_text(f"{number}")
    (tmp_path / "in" / "gone.mp4").symlink_to("nowhere.mp4")
    outcome = local(tmp_path / "in", tmp_path / "in" / "out", *UNUSED)
    assert outcome.summary["videos"] == {"rejected": 21}
    assert outcome.summary["rejects"] == {"file": {"not_a_video": 20, "unreadable": 1}}
    assert outcome.summary["duration_s"] == {"in": 0.0, "kept_in_clips": 0.0}
    assert {name for name, rows in outcome.summary["rows"].items() if rows} == {"videos", "rejects"}
    again = local(tmp_path / "in", tmp_path / "in" / "out", *UNUSED)
    assert again.summary["rows"] == outcome.summary["rows"], "OUTPUT inside INPUT is not input"


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Memo, "__init__"),
        (TableWriter, "add"),
        (TableWriter, "write"),
        (Tally, "__enter__"),
        (Ledger, "resume"),
    ],
)
def test_a_full_disk_ends_the_run_with_a_sentence_and_an_honest_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    (tmp_path / "zero.mp4").touch()
    monkeypatch.setattr(owner, name, full)
    with pytest.raises(StoreError, match="No space left on device; make room, and give the same command"):
        local(tmp_path / "zero.mp4", tmp_path / "out", *UNUSED)
    assert run_file(tmp_path / "out")["status"] == "interrupted"
    monkeypatch.undo()
    local(tmp_path / "zero.mp4", tmp_path / "out", *UNUSED)
    assert run_file(tmp_path / "out")["status"] == "done"


def test_a_video_that_crashed_its_process_twice_is_rejected_until_it_is_retried(tmp_path: Path) -> None:
    output, text = tmp_path / "out", tmp_path / "text.mp4"
    text.write_text("not a film\n" * 50)
    config = load(None, ["run.runner=local", *UNUSED], Config).config
    site = Site(config=config, scratch=output / "_work", memo=output / "_memo", language=None, vision=None)
    (source,) = identify(survey([text]), memo := Memo(output / "_memo"))
    (output / "_versions").mkdir()
    for number in (1, 2):
        memo.put(f"{site.watch().key(source.video())}-{number}", '"Fatal Python error: Bus error"')
    assert local(text, output, *UNUSED).over_budget
    assert [(row["reason"], row["stage"]) for row in table(output, "rejects")] == [
        ("worker_crashed", "run")
    ]
    assert "Bus error" in table(output, "rejects")[0]["detail"]
    assert not local(text, output, "run.retry_crashed=true", *UNUSED).over_budget
    assert [row["reason"] for row in table(output, "rejects")] == ["not_a_video"]


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda path: path.write_text("mine"), "is a file; name a folder"),
        (lambda path: (path.mkdir(), (path / "thesis.tex").touch()), "not written by videoauteur"),
        (lambda path: (path.mkdir(), (path / "run.json").mkdir()), "not written by videoauteur"),
        (lambda path: path.symlink_to("/proc/self/mem"), "is a file"),
    ],
)
def test_an_output_that_is_not_ours_is_refused(tmp_path: Path, make: Any, fact: str) -> None:
    path = tmp_path / "out"
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError) as caught, claimed(path):
        pass
    assert str(caught.value).startswith(f"OUTPUT {path}: ")
    assert fact in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "out"
    with pytest.raises(OutputError, match=f"OUTPUT {below}: Not a directory"), claimed(below):
        pass


def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    with claimed(tmp_path / "out"):
        (tmp_path / "out" / RUN_FILE).write_text("{}")
        with pytest.raises(OutputError, match="another run is at work in it"), claimed(tmp_path / "out"):
            pass
    with claimed(tmp_path / "out"):
        pass


def test_a_memo_that_cannot_be_made_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory; make it writable, or name another folder"):
        GuardedMemo(tmp_path / "file" / "memo")
