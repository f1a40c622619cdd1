"""A video that crashes its process or hangs is remembered; a kill from outside is not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.curation.crashes import NOTES, Watch, collect, remembered_crash
from pipeline.platform.memo import Memo
from stages.records import Video

ROOT = Path(__file__).parents[3]
VIDEO = Video(uri="file:///soup.mp4", video_id="a" * 16, content_id="a" * 64)
PROCESS = """
import ctypes, os, signal, sys, time
from pathlib import Path
from pipeline.curation.crashes import Watch
from stages.records import Video
video = Video(uri="file:///soup.mp4", video_id="a" * 16, content_id="a" * 64)
with Watch(Path(sys.argv[1]), [], 0.3).armed() as watch:
    with watch.over(video):
        {act}
"""
CRASH, HANG, KILL = "ctypes.string_at(0)", "time.sleep(60)", "os.kill(os.getpid(), signal.SIGKILL)"


def died(folder: Path, act: str) -> subprocess.CompletedProcess[str]:
    """Run a process that ends while it processes the video."""
    command = [sys.executable, "-c", PROCESS.format(act=act), str(folder)]
    return subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("act", "code", "detail", "printed"),
    [
        (CRASH, -11, "Fatal Python error: Segmentation fault", ""),
        (HANG, 1, "Timeout (0:00:01.300000)", "soup.mp4 takes longer than run.video_deadline_s=0.3;"),
    ],
)
def test_a_crash_and_a_hang_are_remembered_the_second_time(
    tmp_path: Path, act: str, code: int, detail: str, printed: str
) -> None:
    memo, key = Memo(tmp_path / "memo"), Watch(tmp_path, [], 0.3).key(VIDEO)
    for expected in (
        None,
        f"ended its process twice ({detail}); set run.retry_crashed=true to try it again",
    ):
        done = died(tmp_path, act)
        assert done.returncode == code
        assert printed in done.stderr
        crash = collect(tmp_path, memo)[key]
        assert (crash.detail, crash.is_timeout) == (detail, act == HANG)
        assert remembered_crash(memo, key) == expected
        assert collect(tmp_path, memo) == {}
    assert (tmp_path / "crashes.log").read_text().count("most recent call first") == 2


def test_a_kill_from_outside_is_no_fault_of_the_video(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo")
    assert died(tmp_path, KILL).returncode == -9
    assert len(list((tmp_path / NOTES).iterdir())) == 1
    assert collect(tmp_path, memo) == {}
    assert list((tmp_path / NOTES).iterdir()) == []


def test_a_process_at_work_keeps_its_note_and_a_finished_video_leaves_none(tmp_path: Path) -> None:
    with Watch(tmp_path, [], 60.0).armed() as watch, watch.over(VIDEO):
        assert collect(tmp_path, Memo(tmp_path / "memo")) == {}
        assert len(list((tmp_path / NOTES).iterdir())) == 1
    assert list((tmp_path / NOTES).iterdir()) == []


def test_a_crash_between_two_videos_is_the_fault_of_neither(tmp_path: Path) -> None:
    died(tmp_path, "pass\n    ctypes.string_at(0)")
    assert len(list((tmp_path / NOTES).iterdir())) == 1
    assert collect(tmp_path, Memo(tmp_path / "memo")) == {}
    assert list((tmp_path / NOTES).iterdir()) == []


def test_many_videos_in_a_row_have_a_deadline_each(tmp_path: Path) -> None:
    with Watch(tmp_path, [], 0.3).armed() as watch:
        for _ in range(20):
            with watch.over(VIDEO):
                time.sleep(0.1)


def test_each_stage_of_a_video_has_a_deadline(tmp_path: Path) -> None:
    with Watch(tmp_path, [], 0.3).armed() as watch, watch.over(VIDEO):
        for _ in range(20):
            watch.restart()
            time.sleep(0.1)


def test_crashes_are_those_of_a_content_and_a_deadline() -> None:
    watch = Watch(Path(), [], 1.0)
    other = Video(uri="file:///other name.mp4", video_id="a" * 16, content_id="a" * 64)
    assert watch.key(other) == watch.key(VIDEO) != Watch(Path(), [], 2.0).key(VIDEO)
